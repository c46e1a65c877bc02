package deploy

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/inputfile"
)

// compareOnDisk compares each file with the directory. same[i] is true if the directory contains a
// file with the name and the bytes of files[i].
func (d *Dir) compareOnDisk(files []haproxycfg.RenderedFile) (same []bool, err error) {
	same = make([]bool, len(files))
	for i, f := range files {
		if same[i], err = inputfile.Equal(d.file(f.Name), f.Data); err != nil {
			return nil, err
		}
	}
	return same, nil
}

// write writes the files that are not yet in the directory, haproxy.cfg last. written[i] is true if
// files[i] is in the directory already. pending is true if pendingFile, the marker of a pending
// reload, exists.
//
// write syncs the other files before it writes haproxy.cfg. So after a loss of power, the directory
// contains either the old or the new configuration.
//
// Stable and Runtime maps (see [haproxycfg.Map]) are an exception: write replaces the content of a
// file that the old haproxy.cfg names. Before that, it creates pendingFile, so that the next Apply
// reloads HAProxy if the process ends in between.
//
// write also writes these maps and haproxy.cfg to temporary files before it renames the first of them.
// So a full disk changes none of them. Otherwise HAProxy might load, at a restart, new maps that lead
// to backends that the old haproxy.cfg does not contain.
func (d *Dir) write(files []haproxycfg.RenderedFile, written []bool, pending bool) error {
	last := len(files) - 1
	dirs := map[string]bool{mapsDir: true}
	for _, f := range files[:last] {
		dirs[path.Dir(f.Name)] = true
	}
	for dir := range dirs {
		if err := os.MkdirAll(d.file(dir), d.dirMode()); err != nil {
			return err
		}
	}
	var later []haproxycfg.RenderedFile // the Stable and Runtime maps, and haproxy.cfg
	for i, f := range files {
		switch {
		case written[i]:
		case f.Stable || f.Runtime || i == last:
			later = append(later, f)
		default:
			if err := d.replace(f.Name, f.Data, d.modeOf(f)); err != nil {
				return err
			}
		}
	}
	staged, err := d.stage(later)
	defer func() {
		for _, s := range staged {
			s.Discard()
		}
	}()
	if err != nil {
		return err
	}
	// Sync the directories even if this call has written no file: an earlier process may have
	// written a file, and ended before it synced the directory.
	for dir := range dirs {
		if dir == mapsDir {
			continue // commit syncs it
		}
		if err := atomicfile.SyncDir(d.file(dir)); err != nil {
			return err
		}
	}
	replaced, err := d.readReplaced(files, written)
	if err != nil {
		return err
	}
	if err := d.prepare(!written[last], pending); err != nil {
		return err
	}
	if len(replaced) > 0 {
		d.changes.replaced, d.changes.onlyMaps = replaced, written[last]
	}
	if written[last] {
		return d.commit(later, staged)
	}
	n := len(later) - 1
	if err := d.commit(later[:n], staged[:n]); err != nil {
		return err
	}
	if err := staged[n].Commit(func() error { return d.at("rename " + configFile) }); err != nil {
		return err
	}
	return atomicfile.SyncDir(d.Path)
}

// prepare creates pendingFile. Before that, if the method "write" is going to replace haproxy.cfg,
// it copies haproxy.cfg as the last good configuration. While a reload is pending, prepare does
// nothing: HAProxy may have refused haproxy.cfg, so this file must not become the last good
// configuration.
func (d *Dir) prepare(replacesConfig, pending bool) error {
	if pending {
		return nil
	}
	if replacesConfig {
		if err := d.saveLastGood(); err != nil {
			return err
		}
	}
	if d.Reload == nil {
		return nil
	}
	return d.createEmpty(pendingFile)
}

// readReplaced returns the old content of those maps that the method "write" is going to replace.
// Such a map is in the directory under the same name, with another content.
func (d *Dir) readReplaced(files []haproxycfg.RenderedFile, written []bool) (all []haproxycfg.RenderedFile, err error) {
	for i, f := range files {
		if written[i] || !f.Stable && !f.Runtime {
			continue
		}
		data, err := readOptional(d.file(f.Name))
		if err != nil {
			return nil, err
		}
		if data != nil {
			all = append(all, haproxycfg.RenderedFile{Name: f.Name, Data: data, Stable: f.Stable, Runtime: f.Runtime})
		}
	}
	return all, nil
}

// replace replaces the content of a file. The caller must call removeLeftovers first, once for all
// files. If replace searched the directory for leftovers itself, the time for many files would grow
// with the square of their number.
func (d *Dir) replace(name string, data []byte, mode fs.FileMode) error {
	if err := d.at("write " + name); err != nil {
		return err
	}
	rename := func() error { return d.at("rename " + name) }
	return atomicfile.WriteKeepingLeftovers(d.file(name), data, mode, rename)
}

func (d *Dir) createEmpty(name string) error {
	if err := d.at("write " + name); err != nil {
		return err
	}
	f, err := os.OpenFile(d.file(name), os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, d.mode())
	if err != nil {
		return err
	}
	return f.Close()
}

// linkFile is the name of a hard link to haproxy.cfg. saveLastGood creates this link and then
// renames it. If the process ends in between, a later removeLeftovers removes the link.
const linkFile = "." + lastGoodFile + ".0"

// saveLastGood makes the present haproxy.cfg, if it exists, the last good configuration. It adds a
// second name (a hard link) to the file, because writing and syncing a copy of a large file takes
// longer. No program changes the bytes of this file, so the content stays the same under both
// names.
func (d *Dir) saveLastGood() error {
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
		linked = os.Link(config, link) == nil // some file systems have no hard links
	}
	if !linked {
		old, err := inputfile.Read(config, maxFile)
		if err != nil {
			return err
		}
		return d.replace(lastGoodFile, old, d.mode())
	}
	// Remove the link even after the rename: if the link and the last good file are already the
	// same file, rename does nothing and the link stays.
	defer os.Remove(link)
	if err := d.at("rename " + lastGoodFile); err != nil {
		return err
	}
	return os.Rename(link, d.file(lastGoodFile))
}

var (
	mapFileName  = regexp.MustCompile(`^(.+)-[0-9a-f]{16}\.map$`)
	listFileName = regexp.MustCompile(`^(.+)-[0-9a-f]{16}\.list$`)
	certFileName = regexp.MustCompile(`^[0-9a-f]{32}\.pem$`)
)

// isHashed reports whether the name of a file in mapsDir or certsDir contains a hash of its
// content, as the names of maps, certificates and lists of certificates do.
func isHashed(name string) bool {
	return mapFileName.MatchString(name) || listFileName.MatchString(name) || certFileName.MatchString(name)
}

// removeLeftovers removes files that processes left in the directory when they were killed:
// temporary files, and the hard link with the name linkFile. The caller must hold the lock of the
// directory.
func (d *Dir) removeLeftovers() {
	atomicfile.RemoveLeftovers(d.Path, func(name string) bool {
		return name == configFile || name == lastGoodFile || "."+name+"0" == linkFile
	})
	for _, sub := range []string{mapsDir, certsDir} {
		atomicfile.RemoveLeftovers(d.file(sub), isHashed)
	}
}

// removeUnused removes maps, certificates and lists of certificates that are not in use. Two kinds
// of files are in use: the files of the configuration that HAProxy runs (the argument "files"), and
// the files that the last good configuration names.
func (d *Dir) removeUnused(files []haproxycfg.RenderedFile) error {
	if err := d.at("remove unused"); err != nil {
		return err
	}
	inForce := make(map[string]bool, len(files))
	for _, f := range files {
		inForce[f.Name] = true
	}
	var good []byte // read when the loop finds the first file that is not in the argument "files"
	for _, sub := range []string{mapsDir, certsDir} {
		entries, err := inputfile.ReadDir(d.file(sub))
		if sub == certsDir && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			name := e.Name()
			if !e.Type().IsRegular() || !isHashed(name) || inForce[path.Join(sub, name)] {
				continue
			}
			if good == nil {
				if good, err = d.lastGoodText(); err != nil {
					return err
				}
			}
			if bytes.Contains(good, []byte(name)) {
				continue
			}
			if err := os.Remove(filepath.Join(d.file(sub), name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxFile is the largest size, in bytes, of a file that Dir reads. A haproxy.cfg with 250,000
// servers is smaller than a quarter of maxFile.
const maxFile = 256 << 20

// lastGoodText returns the text of the last good haproxy.cfg, followed by the certificate lists
// that it names. So the result contains the name of every file that the last good configuration
// needs.
func (d *Dir) lastGoodText() ([]byte, error) {
	good, err := readOptional(d.file(lastGoodFile))
	if err != nil {
		return nil, err
	}
	text := append([]byte{}, good...) // not nil, so that the caller reads the file once
	for _, name := range namedFiles(good) {
		if listFileName.MatchString(path.Base(name)) {
			list, err := readOptional(d.file(name))
			if err != nil {
				return nil, err
			}
			text = append(text, list...)
		}
	}
	return text, nil
}

// readOptional returns the content of the file, or nil without an error if the file does not exist.
func readOptional(file string) ([]byte, error) { return inputfile.ReadOptional(file, maxFile) }

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}
