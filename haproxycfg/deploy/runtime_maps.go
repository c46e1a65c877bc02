package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/internal/atomicfile"
)

// onlyRuntimeMaps reports whether all files that are not in the directory yet are maps whose field
// Runtime is true (see [haproxycfg.Map]). same[i] is true if the directory contains files[i]. If
// onlyRuntimeMaps returns true, HAProxy already runs the same haproxy.cfg, with the same maps and
// the same keys.
func onlyRuntimeMaps(files []haproxycfg.RenderedFile, same []bool) bool {
	for i, f := range files {
		if !same[i] && !f.Runtime {
			return false
		}
	}
	return true
}

func (p *Plan) onlyRuntimeMaps() bool {
	before := make(map[string][]byte, len(p.before))
	for _, f := range p.before {
		before[f.Name] = f.Data
	}
	same := make([]bool, len(p.after.files))
	for i, f := range p.after.files {
		data, ok := before[f.Name]
		same[i] = f.Private || ok && bytes.Equal(data, f.Data) // if a private file differs, haproxy.cfg differs too
	}
	return onlyRuntimeMaps(p.after.files, same)
}

// applyRuntimeMaps writes the maps that are not in the directory yet, and changes their values in
// the running HAProxy.
func (d *Dir) applyRuntimeMaps(ctx context.Context, files []haproxycfg.RenderedFile, same []bool) error {
	for i, f := range files {
		if same[i] {
			continue
		}
		old, err := readOptional(d.file(f.Name))
		if err != nil {
			return fmt.Errorf("deploy: apply: %w", err)
		}
		before := entries(old)
		var changed []haproxycfg.MapEntry
		for key, value := range entries(f.Data) {
			if before[key] != value {
				changed = append(changed, haproxycfg.MapEntry{Key: key, Value: value})
			}
		}
		if err := d.replaceRuntimeMap(ctx, f, changed); err != nil {
			return fmt.Errorf("deploy: apply: %w", err)
		}
	}
	return nil
}

// replaceRuntimeMap replaces the file of a map, and then changes the entries in the running
// HAProxy. While the values in HAProxy may differ from the file, pendingFile exists, so that the
// next Apply reloads HAProxy, and HAProxy reads the file. If HAProxy refuses the change,
// replaceRuntimeMap reloads HAProxy itself.
func (d *Dir) replaceRuntimeMap(ctx context.Context, f haproxycfg.RenderedFile, changed []haproxycfg.MapEntry) error {
	pending := exists(d.file(pendingFile))
	if d.SetMap != nil && d.Reload != nil && !pending {
		if err := d.createEmpty(pendingFile); err != nil {
			return err
		}
		if err := atomicfile.SyncDir(d.Path); err != nil {
			return err
		}
	}
	if err := d.replace(f.Name, f.Data, d.mode()); err != nil {
		return err
	}
	if err := atomicfile.SyncDir(d.file(mapsDir)); err != nil {
		return err
	}
	if d.SetMap == nil {
		return nil
	}
	dir, err := filepath.Abs(d.Path)
	if err != nil {
		return err
	}
	if err := d.at("set map"); err != nil {
		return err
	}
	slices.SortFunc(changed, func(a, b haproxycfg.MapEntry) int { return strings.Compare(a.Key, b.Key) })
	err = d.SetMap(ctx, path.Join(filepath.ToSlash(dir), f.Name), changed)
	switch {
	case err != nil && (d.Reload == nil || ctx.Err() != nil || pending):
		return err
	case err != nil:
		if _, reloadErr := d.reload(ctx); reloadErr != nil {
			return errors.Join(err, reloadErr)
		}
		return nil
	case pending || d.Reload == nil:
		return nil
	}
	return d.clearPending()
}

// SetMapValues changes values of a map of the configuration in force. name is the name of the map.
// In the configuration, the field Runtime of the map must be true. SetMapValues first changes the
// file of the map, and then, with Dir.SetMap, the running HAProxy. It does not apply any other
// change: you can call it while a new configuration waits or was refused. SetMapValues ignores keys
// that the map does not contain. If the configuration has no such map, SetMapValues does nothing.
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
		var changed []haproxycfg.MapEntry
		for key, value := range values {
			if _, ok := now[key]; ok {
				now[key] = value
				changed = append(changed, haproxycfg.MapEntry{Key: key, Value: value})
			}
		}
		if len(changed) == 0 {
			return false, nil
		}
		f.Data = nil
		for _, key := range slices.Sorted(maps.Keys(now)) {
			f.Data = fmt.Appendf(f.Data, "%s %s\n", key, now[key])
		}
		return true, d.replaceRuntimeMap(ctx, f, changed)
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
// map as haproxy.cfg names it. The path must follow the rules of [runtimeapi.Socket.SetMap]. If it
// does not, for example because it contains a space, SetMap returns an error, and a Dir reloads
// HAProxy instead.
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
