package deploy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/atomicfile"
)

// onlyMaps reports whether all files that are not in the directory yet are maps that HAProxy can
// change at run time: see Runtime and Stable of [haproxycfg.Map]. same[i] is true if the directory
// contains files[i].
func (d *Dir) onlyMaps(files []haproxycfg.RenderedFile, same []bool) bool {
	for i, f := range files {
		if !same[i] && !(f.Runtime && d.SetMap != nil) && !(f.Stable && d.ReplaceMaps != nil) {
			return false
		}
	}
	return true
}

func (p *Plan) onlyMaps() bool {
	before := make(map[string][]byte, len(p.before))
	for _, f := range p.before {
		before[f.Name] = f.Data
	}
	same := make([]bool, len(p.after.files))
	for i, f := range p.after.files {
		data, ok := before[f.Name]
		same[i] = f.Private || ok && bytes.Equal(data, f.Data) // if a private file differs, haproxy.cfg differs too
	}
	return p.dir.onlyMaps(p.after.files, same)
}

// applyMaps changes the maps whose files in the directory differ from t: in the running HAProxy, and
// in the directory. same[i] is true if the directory already contains t.files[i]. If entries of stable
// maps have changed, applyMaps then lets HAProxy check the files.
func (d *Dir) applyMaps(ctx context.Context, t target, same []bool) (changed bool, err error) {
	var files []haproxycfg.RenderedFile
	stable := false
	for i, f := range t.files {
		if !same[i] {
			files = append(files, f)
			stable = stable || f.Stable
		}
	}
	check := func() error {
		if !stable || d.Check == nil || t.checked {
			return nil
		}
		return d.check(ctx, t, false)
	}
	restored, err := d.changeMaps(ctx, files, check)
	if err != nil {
		return !restored, fmt.Errorf("deploy: apply: %w", err)
	}
	return true, nil
}

// changeMaps changes the entries of maps in the running HAProxy, and replaces the files of the maps.
// If HAProxy refuses the change, changeMaps reloads HAProxy. While the entries in HAProxy may differ
// from the files, pendingFile exists, so that the next Apply reloads HAProxy.
//
// changeMaps writes temporary files before it sends the entries to HAProxy, so that a full disk changes
// nothing. It syncs and renames the files only after HAProxy has the entries, because a sync is slow:
// on a disk that other programs used too, a sync took 8 ms (p50) to 40 ms (p99), and two maps need six
// syncs. If the power fails before the syncs, HAProxy ends too, and starts again with the old or the
// new files.
//
// At the end, changeMaps compares all entries of stable maps with HAProxy, and calls "check". If a
// file cannot be replaced, if check returns an error, or if HAProxy refuses the reload, changeMaps
// puts the old maps back and reloads HAProxy. The result "restored" is then true.
func (d *Dir) changeMaps(ctx context.Context, files []haproxycfg.RenderedFile, check func() error) (restored bool, err error) {
	old, err := d.readReplaced(files, make([]bool, len(files)))
	if err != nil {
		return true, err
	}
	staged, err := d.stage(files)
	defer func() {
		for _, s := range staged {
			s.Discard()
		}
	}()
	if err != nil {
		return true, err
	}
	d.changes.replaced, d.changes.onlyMaps = old, true
	if d.SetMap == nil && d.ReplaceMaps == nil {
		return false, d.commit(files, staged)
	}
	pending := exists(d.file(pendingFile))
	if err := d.prepare(false, pending); err != nil {
		return true, err
	}
	stable, sendErr := d.sendMaps(ctx, files, old, pending)
	err = d.commit(files, staged)
	mayReload := d.Reload != nil && ctx.Err() == nil && !pending
	switch {
	case err != nil && mayReload:
		return d.takeBack(ctx, fmt.Errorf("HAProxy had changed its maps at run time, but then: %w", errors.Join(err, sendErr)))
	case err != nil:
		return false, errors.Join(err, sendErr)
	case sendErr == nil:
		sendErr = d.compareMaps(ctx, stable)
	}
	switch {
	case sendErr != nil && !mayReload:
		return false, sendErr
	case sendErr != nil:
		d.changes.refused = sendErr
		if restored, reloadErr := d.reload(ctx); reloadErr != nil {
			return restored, errors.Join(sendErr, reloadErr)
		}
		return false, nil // the new worker has checked the files
	}
	d.changes.maps = len(files)
	if err := check(); err != nil {
		if d.Reload == nil || ctx.Err() != nil {
			return false, err
		}
		return d.takeBack(ctx, fmt.Errorf("HAProxy had changed its maps at run time, but then rejected the files: %w", err))
	}
	if pending || d.Reload == nil {
		return false, nil
	}
	return false, d.clearPending()
}

// stage writes the new content of maps to temporary files. staged[i] belongs to files[i]. After an
// error, the result contains the temporary files that stage has written.
func (d *Dir) stage(files []haproxycfg.RenderedFile) (staged []*atomicfile.Staged, err error) {
	for _, f := range files {
		if err := d.at("write " + f.Name); err != nil {
			return staged, err
		}
		s, err := atomicfile.Stage(d.file(f.Name), f.Data, d.mode())
		if err != nil {
			return staged, err
		}
		staged = append(staged, s)
	}
	return staged, nil
}

// commit replaces the files of maps by the temporary files that the method "stage" has written. Before
// that, it syncs the directory, which contains pendingFile. So pendingFile is on the disk before any
// new map, even if the power fails.
func (d *Dir) commit(files []haproxycfg.RenderedFile, staged []*atomicfile.Staged) error {
	if err := atomicfile.SyncDir(d.Path); err != nil {
		return err
	}
	for i, s := range staged {
		if err := s.Commit(func() error { return d.at("rename " + files[i].Name) }); err != nil {
			return err
		}
	}
	return atomicfile.SyncDir(d.file(mapsDir))
}

// takeBack puts the old content of the maps back and reloads HAProxy. The argument "rejected" is
// the error that prevents the new content. takeBack returns an error that contains the text of
// rejected.
func (d *Dir) takeBack(ctx context.Context, rejected error) (restored bool, err error) {
	if restored, err = d.restore(); err != nil {
		return restored, errors.Join(rejected, fmt.Errorf("cannot restore the last good maps: %w", err))
	}
	if err := d.at("reload restored"); err != nil {
		return restored, errors.Join(rejected, err)
	}
	if err := d.Reload(ctx); err != nil {
		return restored, errors.Join(rejected, fmt.Errorf("the last good maps are restored on disk, but: %w", err))
	}
	d.changes.reloaded, d.changes.refused = true, rejected
	return restored, cmp.Or(d.clearPending(), fmt.Errorf("%w\n(the last good maps are restored and in force)", rejected))
}

// sendMaps changes the maps of the running HAProxy. It returns the entries of the stable maps, for
// compareMaps. The argument "files" contains the new files of the maps, and "old" contains the
// files that they replace. If pending is true, HAProxy may not have the content of "old", so
// Dir.ReplaceMaps must not rely on this content.
func (d *Dir) sendMaps(ctx context.Context, files, old []haproxycfg.RenderedFile, pending bool) (stable []runtimeapi.MapContent, err error) {
	dir, err := filepath.Abs(d.Path)
	if err != nil {
		return nil, err
	}
	if err := d.at("set map"); err != nil {
		return nil, err
	}
	for _, f := range files {
		file := path.Join(filepath.ToSlash(dir), f.Name)
		was := slices.IndexFunc(old, func(o haproxycfg.RenderedFile) bool { return o.Name == f.Name })
		if f.Stable {
			m := runtimeapi.MapContent{Path: file, Entries: mapEntries(f.Data)}
			if was >= 0 && !pending {
				m.Before = mapEntries(old[was].Data)
			}
			stable = append(stable, m)
			continue
		}
		before := map[string]string{}
		if was >= 0 {
			before = entries(old[was].Data)
		}
		var changed []haproxycfg.MapEntry
		for key, value := range entries(f.Data) {
			if before[key] != value {
				changed = append(changed, haproxycfg.MapEntry{Key: key, Value: value})
			}
		}
		slices.SortFunc(changed, func(a, b haproxycfg.MapEntry) int { return strings.Compare(a.Key, b.Key) })
		if err := d.SetMap(ctx, file, changed); err != nil {
			return nil, err
		}
	}
	if len(stable) == 0 {
		return nil, nil
	}
	return stable, d.ReplaceMaps(ctx, stable)
}

// compareMaps calls Dir.CompareMaps, if there is one, for the stable maps that sendMaps has changed.
func (d *Dir) compareMaps(ctx context.Context, stable []runtimeapi.MapContent) error {
	if d.CompareMaps == nil || len(stable) == 0 {
		return nil
	}
	return d.CompareMaps(ctx, stable)
}

// mapEntries returns the entries of a map file, in the order of the file. The result is not nil.
func mapEntries(data []byte) []runtimeapi.MapEntry {
	all := make([]runtimeapi.MapEntry, 0, bytes.Count(data, []byte("\n")))
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		all = append(all, runtimeapi.MapEntry{Key: key, Value: value})
	}
	return all
}

// SetMapValues changes values of the map "name" of the configuration in force, first in its file,
// and then, with Dir.SetMap, in the running HAProxy. The field Runtime of the map must be true. You
// can call it while a new configuration waits or was refused. It ignores unknown keys, and does
// nothing if the configuration has no such map.
func (d *Dir) SetMapValues(ctx context.Context, name string, values map[string]string) error {
	_, err := d.locked(ctx, func() (bool, error) {
		files, err := d.current()
		if err != nil {
			return false, err
		}
		f, ok := byLogicalName(files)[name]
		if !ok {
			return false, nil
		}
		now := entries(f.Data)
		known := false
		for key, value := range values {
			if _, ok := now[key]; ok {
				now[key], known = value, true
			}
		}
		if !known {
			return false, nil
		}
		f.Data = nil
		for _, key := range slices.Sorted(maps.Keys(now)) {
			f.Data = fmt.Appendf(f.Data, "%s %s\n", key, now[key])
		}
		f.Runtime = true
		_, err = d.changeMaps(ctx, []haproxycfg.RenderedFile{f}, func() error { return nil })
		return true, err
	})
	if err != nil {
		return fmt.Errorf("deploy: map %s: %w", name, err)
	}
	return nil
}

// MapInForce returns the entries of a map of the configuration in the directory. name is the name
// of the map. The result is empty if the configuration has no such map.
func (d *Dir) MapInForce(name string) (map[string]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	files, err := d.current()
	if err != nil {
		return nil, fmt.Errorf("deploy: map %s: %w", name, err)
	}
	return entries(byLogicalName(files)[name].Data), nil
}

// SetMap changes values of a map in the worker that serves new connections. file is the path of the
// map as haproxy.cfg names it. If the path, a key or a value breaks the rules of
// [runtimeapi.Socket.SetMap], for example because it contains a space, SetMap returns an error. A
// Dir then reloads HAProxy instead.
func (r Reloader) SetMap(ctx context.Context, file string, entries []haproxycfg.MapEntry) error {
	worker, err := r.worker(ctx)
	if err != nil {
		return fmt.Errorf("deploy: set map: %w", err)
	}
	for _, e := range entries {
		if err := worker.SetMap(ctx, file, e.Key, e.Value); err != nil {
			return fmt.Errorf("deploy: %w", err)
		}
	}
	return nil
}

// ReplaceMaps replaces the entries of maps in the worker that serves new connections; see
// [runtimeapi.Socket.ReplaceMaps]. If no command of HAProxy can contain an entry, for example a key
// with ";", ReplaceMaps returns an error. A Dir then reloads HAProxy instead.
func (r Reloader) ReplaceMaps(ctx context.Context, maps []runtimeapi.MapContent) error {
	return r.withMaps(ctx, maps, runtimeapi.Socket.ReplaceMaps)
}

// CompareMaps returns an error if, in the worker that serves new connections, the entries of the
// maps differ from the wanted entries. See [runtimeapi.Socket.CompareMaps].
func (r Reloader) CompareMaps(ctx context.Context, maps []runtimeapi.MapContent) error {
	return r.withMaps(ctx, maps, runtimeapi.Socket.CompareMaps)
}

func (r Reloader) withMaps(ctx context.Context, maps []runtimeapi.MapContent, do func(runtimeapi.Socket, context.Context, []runtimeapi.MapContent) error) error {
	worker, err := r.worker(ctx)
	if err != nil {
		return fmt.Errorf("deploy: replace maps: %w", err)
	}
	if err := do(worker, ctx, maps); err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	return nil
}
