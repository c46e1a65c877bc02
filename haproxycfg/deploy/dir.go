package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/internal/atomicfile"
)

// Dir is a directory with a configuration that HAProxy runs. It holds
// haproxy.cfg, the maps in maps, and in haproxy.cfg.last-good the configuration
// that was in force before, with its maps.
//
// A process that ends at any moment leaves the old configuration or the new
// one, each whole. What it left undone, the next Apply does.
//
// The fields must not change after the first call. Methods are safe for
// concurrent use. Calls of Apply run one after the other, on Unix those of other
// processes on the same directory too.
type Dir struct {
	// Path is the directory. It is created if need be.
	Path string
	// Mode is the mode of the files; directories get the execute bits to it.
	// Zero means 0644. HAProxy reads them before it gives up root.
	Mode fs.FileMode
	// Check, if not nil, decides whether a configuration may be written:
	// [Checker.Check]. Nil means no check but that of rendering.
	Check func(context.Context, *haproxycfg.Config) error
	// Reload, if not nil, brings what is on disk into force, and says so:
	// [Reloader.Reload]. Nil means that somebody else does.
	Reload func(context.Context) error
	// Guard, if not nil, is called before each effect: before a file is written or renamed, and
	// before a reload. If it returns an error, Apply stops with that error and leaves the directory
	// as a process does that ends at this moment. It is for processes that share a directory and
	// of which one at a time may write.
	Guard func() error

	mu sync.Mutex
	// step is called before each effect, for tests that end the process there.
	step func(name string) error
}

const (
	configFile   = "haproxy.cfg"
	lastGoodFile = configFile + ".last-good"
	// pendingFile stands from before the first change on disk until HAProxy
	// has loaded it, so that a process that ends in between is found out.
	pendingFile = configFile + ".reload-pending"
	mapsDir     = "maps"
	lockName    = ".lock"
)

// Apply makes c the configuration of the directory and of HAProxy. In order:
//
//  1. It renders c. If that is what the directory holds already, Apply writes
//     nothing, reloads nothing and returns false.
//  2. Check. If it fails, the configuration stays what it was.
//  3. The maps that are not there are written, then what was in force is kept as
//     the last good one, then haproxy.cfg is replaced, with fsync and rename.
//  4. Reload. If it fails, the last good configuration is put back and
//     loaded again, and the error says so. Without one, at the first Apply,
//     the new one stays and the next Apply reloads again.
//  5. Maps that no configuration names any more are removed.
//
// changed tells whether the directory holds another configuration than before.
// The reload that an earlier Apply could not finish is made up for, even if
// nothing else is to do; changed is false then.
//
// When ctx ends during the reload, its outcome is unknown: the new
// configuration stays, and the next Apply reloads again.
func (d *Dir) Apply(ctx context.Context, c *haproxycfg.Config) (changed bool, err error) {
	files, err := d.render(c)
	if err != nil {
		return false, err
	}
	return d.locked(ctx, func() (bool, error) { return d.apply(ctx, c, files) })
}

// locked calls f while nobody else applies, in this process or another.
func (d *Dir) locked(ctx context.Context, f func() (bool, error)) (changed bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("deploy: apply: %w", err)
	}
	if err := d.at("mkdir"); err != nil {
		return false, err
	}
	if err := os.MkdirAll(d.Path, d.dirMode()); err != nil {
		return false, fmt.Errorf("deploy: apply: %w", err)
	}
	unlock, err := lockFile(ctx, d.file(lockName))
	if err != nil {
		return false, fmt.Errorf("deploy: apply: %w", err)
	}
	defer unlock()
	return f()
}

func (d *Dir) apply(ctx context.Context, c *haproxycfg.Config, files []haproxycfg.RenderedFile) (changed bool, err error) {
	there, err := d.holds(files)
	if err != nil {
		return false, fmt.Errorf("deploy: apply: %w", err)
	}
	same := !slices.Contains(there, false)
	pending := d.Reload != nil && exists(d.file(pendingFile))
	if same && !pending {
		return false, nil
	}
	if !same {
		if d.Check != nil {
			if err := d.Check(ctx, c); err != nil {
				return false, err
			}
			if err := ctx.Err(); err != nil { // the check took its time
				return false, fmt.Errorf("deploy: apply: %w", err)
			}
		}
		if err := d.write(files, there, pending); err != nil {
			return false, fmt.Errorf("deploy: apply: %w", err)
		}
		changed = !there[len(there)-1]
	}
	if d.Reload != nil {
		restored, err := d.reload(ctx)
		if err != nil {
			return changed != restored, err
		}
	}
	if err := d.collect(files); err != nil {
		return changed, fmt.Errorf("deploy: apply: the configuration is in force, but: %w", err)
	}
	return changed, nil
}

func (d *Dir) render(c *haproxycfg.Config) ([]haproxycfg.RenderedFile, error) {
	dir, err := filepath.Abs(d.Path)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	return c.Render(filepath.ToSlash(dir))
}

// reload brings what is on disk into force, or else the last good
// configuration.
func (d *Dir) reload(ctx context.Context) (restored bool, err error) {
	if err := d.at("reload"); err != nil {
		return false, err
	}
	failed := d.Reload(ctx)
	if failed == nil {
		return false, d.settled()
	}
	if ctx.Err() != nil {
		return false, failed
	}
	restored, err = d.restore()
	if err != nil {
		return false, errors.Join(failed, fmt.Errorf("deploy: cannot restore the last good configuration: %w", err))
	}
	if !restored {
		return false, failed
	}
	if err := d.at("reload restored"); err != nil {
		return true, err
	}
	if err := d.Reload(ctx); err != nil {
		return true, errors.Join(failed, fmt.Errorf("deploy: the last good configuration is restored on disk, but: %w", err))
	}
	if err := d.settled(); err != nil {
		return true, errors.Join(failed, err)
	}
	return true, fmt.Errorf("%w\n(the last good configuration is restored and in force)", failed)
}

// restore puts the last good configuration back. It returns false if there is
// none, or if it is what HAProxy failed to load.
func (d *Dir) restore() (bool, error) {
	good, err := readOptional(d.file(lastGoodFile))
	if err != nil || good == nil {
		return false, err
	}
	now, err := readOptional(d.file(configFile))
	if err != nil || bytes.Equal(good, now) {
		return false, err
	}
	err = d.replace(configFile, good)
	return err == nil, err
}

// settled records that HAProxy runs what is on disk.
func (d *Dir) settled() error {
	if err := d.at("settled"); err != nil {
		return err
	}
	err := os.Remove(d.file(pendingFile))
	if err == nil {
		err = atomicfile.SyncDir(d.Path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deploy: apply: %w", err)
	}
	return nil
}

func (d *Dir) at(step string) error {
	if d.Guard != nil {
		if err := d.Guard(); err != nil {
			return fmt.Errorf("stopped before step %q: %w", step, err)
		}
	}
	if d.step == nil {
		return nil
	}
	return d.step(step)
}

func (d *Dir) file(name string) string { return filepath.Join(d.Path, filepath.FromSlash(name)) }

func (d *Dir) mode() fs.FileMode {
	if d.Mode == 0 {
		return 0o644
	}
	return d.Mode.Perm()
}

// dirMode lets enter whoever may read.
func (d *Dir) dirMode() fs.FileMode {
	m := d.mode()
	return m | m&0o444>>2 | 0o700
}
