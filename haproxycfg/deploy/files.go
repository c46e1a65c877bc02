package deploy

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/internal/atomicfile"
)

// holds tells of each file whether it stands in the directory, byte for byte.
func (d *Dir) holds(files []haproxycfg.RenderedFile) ([]bool, error) {
	there := make([]bool, len(files))
	for i, f := range files {
		var err error
		if there[i], err = hasContent(d.file(f.Name), f.Data); err != nil {
			return nil, err
		}
	}
	return there, nil
}

// write puts the files in place that are not there, haproxy.cfg last.
//
// What must outlive a loss of power is synced before what depends on it: the content
// of a map and its name before the haproxy.cfg that names it, the last good
// configuration and the mark of the reload before the haproxy.cfg that they are for.
func (d *Dir) write(files []haproxycfg.RenderedFile, there []bool, pending bool) error {
	if err := os.MkdirAll(d.file(mapsDir), d.dirMode()); err != nil {
		return err
	}
	last := len(files) - 1
	for i, f := range files[:last] {
		if !there[i] {
			if err := d.replace(f.Name, f.Data); err != nil {
				return err
			}
		}
	}
	// Whoever wrote those that are there may have ended before it synced.
	if err := atomicfile.SyncDir(d.file(mapsDir)); err != nil {
		return err
	}
	// What is on disk but was never loaded is not good. The mark comes after: who finds
	// it relies on what is kept.
	if !there[last] && !pending {
		if err := d.keep(); err != nil {
			return err
		}
	}
	if d.Reload != nil && !pending {
		if err := d.mark(pendingFile); err != nil {
			return err
		}
	}
	if there[last] {
		return atomicfile.SyncDir(d.Path)
	}
	config := files[last]
	if err := d.at("write " + config.Name); err != nil {
		return err
	}
	return atomicfile.Write(d.file(config.Name), config.Data, d.mode(), func() error {
		if err := atomicfile.SyncDir(d.Path); err != nil {
			return err
		}
		return d.at("rename " + config.Name)
	})
}

func (d *Dir) replace(name string, data []byte) error {
	if err := d.at("write " + name); err != nil {
		return err
	}
	return atomicfile.Write(d.file(name), data, d.mode(), func() error { return d.at("rename " + name) })
}

// mark creates an empty file.
func (d *Dir) mark(name string) error {
	if err := d.at("write " + name); err != nil {
		return err
	}
	f, err := os.OpenFile(d.file(name), os.O_CREATE|os.O_WRONLY, d.mode())
	if err != nil {
		return err
	}
	return f.Close()
}

// linkFile is named like the rest of a write that did not end, which it is if the
// process ends while it is there.
const linkFile = "." + lastGoodFile + ".0"

// keep makes haproxy.cfg, if there is one, the last good configuration too. It gives
// the file a second name rather than copying it: nothing ever writes to a file in
// place, and a large one takes its time to be synced.
func (d *Dir) keep() error {
	config, link := d.file(configFile), d.file(linkFile)
	info, err := os.Lstat(config)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	linked := info.Mode().IsRegular() && info.Mode().Perm() == d.mode()
	if linked {
		if err := d.at("write " + lastGoodFile); err != nil {
			return err
		}
		linked = os.Link(config, link) == nil // not every file system can
	}
	if !linked {
		old, err := os.ReadFile(config)
		if err != nil {
			return err
		}
		return d.replace(lastGoodFile, old)
	}
	// A rename between two names of one file does nothing, and leaves both.
	defer os.Remove(link)
	if err := d.at("rename " + lastGoodFile); err != nil {
		return err
	}
	return os.Rename(link, d.file(lastGoodFile))
}

var (
	mapFileName = regexp.MustCompile(`^(.+)-[0-9a-f]{16}\.map$`)
	// What a write that did not end left behind; see atomicfile.Write.
	tempFileName = regexp.MustCompile(`^\.(haproxy\.cfg|.+-[0-9a-f]{16}\.map).*[0-9]$`)
)

// collect removes maps that neither the files, which are in force, nor the last good
// configuration name, and the rests of writes that did not end.
func (d *Dir) collect(files []haproxycfg.RenderedFile) error {
	if err := d.at("collect"); err != nil {
		return err
	}
	inForce := make(map[string]bool, len(files))
	for _, f := range files {
		inForce[f.Name] = true
	}
	var good []byte // read if there is any map that is not in force
	for _, sub := range []string{"", mapsDir} {
		entries, err := os.ReadDir(d.file(sub))
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := e.Name()
			unnamed := sub == mapsDir && mapFileName.MatchString(name) && !inForce[path.Join(sub, name)]
			if unnamed {
				if good == nil {
					if good, err = readOptional(d.file(lastGoodFile)); err != nil {
						return err
					}
				}
				unnamed = !bytes.Contains(good, []byte(name))
			}
			if !e.Type().IsRegular() || !unnamed && !tempFileName.MatchString(name) {
				continue
			}
			if err := os.Remove(filepath.Join(d.file(sub), name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// hasContent tells whether a file holds data and nothing else. It reads no further
// than to the first difference.
func hasContent(file string, data []byte) (bool, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Mode().IsRegular() && info.Size() != int64(len(data)) {
		return false, err
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if n > len(data) || !bytes.Equal(buf[:n], data[:n]) {
			return false, nil
		}
		data = data[n:]
		if errors.Is(err, io.EOF) {
			return len(data) == 0, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// readOptional returns nil for a file that does not exist.
func readOptional(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if data == nil && err == nil {
		data = []byte{}
	}
	return data, err
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}
