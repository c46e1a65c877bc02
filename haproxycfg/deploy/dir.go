package deploy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/filelock"
	"github.com/headgate/headgate/internal/inputfile"
)

// Dir is a directory with two configurations. The current one is haproxy.cfg, with its maps in the
// subdirectory maps, and its certificates in certs-in-use. The last good one is
// haproxy.cfg.last-good, with the maps and certificates that it names.
//
// A process may end at any moment of an Apply: the current configuration is then still complete,
// and the next Apply finishes the work.
//
// The fields must not change after the first call of a method. Methods are safe for concurrent use.
// A lock lets only one Apply run at a time, on Unix also among processes.
type Dir struct {
	// Path is the directory. Apply creates it.
	Path string
	// Mode is the permission of all files except private files. 0 means 0644. A directory also has
	// the execute bits.
	Mode fs.FileMode
	// PrivateMode is the permission of new files with private keys; existing files keep theirs. 0
	// means 0600: HAProxy must start as the user of this process or as root, but may then switch to
	// another user. With 0640, HAProxy may start as another user in the group of this process.
	PrivateMode fs.FileMode
	// Check, if not nil, returns an error if a configuration must not be written. [Checker.Check]
	// is such a function. With nil, every valid configuration is written.
	Check func(context.Context, haproxycfg.Valid) error
	// Reload, if not nil, makes HAProxy load the files, or returns an error; [Reloader.Reload] is
	// such a function. Nil means that another program reloads HAProxy.
	Reload func(context.Context) error
	// Redirect, if not nil, makes the running HAProxy stop sending requests to the servers that
	// config, the text of a haproxy.cfg, does not contain. [Reloader.Redirect] is such a function.
	// With nil, HAProxy sends requests to these servers until the next reload.
	Redirect func(ctx context.Context, config []byte) error
	// SetMap, if not nil, changes values of a map of the running HAProxy, at the path "file" in
	// haproxy.cfg. If a new configuration changes only values of maps whose field
	// haproxycfg.Map.Runtime is true, Apply calls SetMap and does not reload HAProxy.
	// [Reloader.SetMap] is such a function.
	SetMap func(ctx context.Context, file string, entries []haproxycfg.MapEntry) error
	// ReplaceMaps, if not nil, replaces the entries of maps of the running HAProxy, and returns nil
	// only after HAProxy has the new entries. If a new configuration changes only entries of maps
	// whose field haproxycfg.Map.Stable is true, Apply calls ReplaceMaps and does not reload
	// HAProxy. [Reloader.ReplaceMaps] is such a function.
	ReplaceMaps func(ctx context.Context, maps []runtimeapi.MapContent) error
	// CompareMaps, if not nil, returns an error if the entries of the maps in the running HAProxy
	// differ from the argument "maps". Apply calls CompareMaps after ReplaceMaps, and reloads
	// HAProxy after an error. [Reloader.CompareMaps] is such a function, which reads all entries.
	CompareMaps func(ctx context.Context, maps []runtimeapi.MapContent) error
	// Runtime, if not nil, changes servers of the running HAProxy without a reload, see [Runtime]. It
	// needs Reload.
	Runtime *Runtime
	// Guard, if not nil, is called before each effect: before Apply writes or renames a file,
	// before servers change at run time, and before a reload. If Guard returns an error, Apply
	// stops with it. Processes that share a directory use Guard so that only one of them writes.
	Guard func() error

	mu       sync.Mutex
	changes  changes // the changes that the present call of Apply has made so far; mu guards it
	texts    texts
	renderer haproxycfg.Renderer // of the configurations of callers
	inSpares haproxycfg.Renderer // of the configurations that useSpares returns, which have other servers
	// beforeStep, if not nil, is called before each step that changes a file or HAProxy. Tests let
	// beforeStep return an error, so that Apply stops as if the process had ended before this step.
	beforeStep func(name string) error
}

// These are names of files in the directory. The names configFile and mapsDir come from package
// haproxycfg.
const (
	configFile     = "haproxy.cfg"
	mapsDir        = "maps"
	certsDir       = "certs-in-use"
	lastGoodFile   = configFile + lastGoodSuffix
	lastGoodSuffix = ".last-good"
	// Apply creates pendingFile before it replaces haproxy.cfg, and removes pendingFile when
	// HAProxy has loaded the new haproxy.cfg. If the process ends in between, the next Apply finds
	// pendingFile and reloads HAProxy.
	pendingFile = configFile + ".reload-pending"
	lockName    = ".lock"
)

// target is a configuration that Dir has rendered for its directory.
type target struct {
	config haproxycfg.Valid
	source *haproxycfg.Config        // the same configuration
	files  []haproxycfg.RenderedFile // haproxy.cfg comes last

	checked bool // true if Dir.Check has accepted it
}

// text returns the text of haproxy.cfg.
func (t target) text() []byte { return t.files[len(t.files)-1].Data }

func (d *Dir) render(c *haproxycfg.Config) (target, error) { return d.renderWith(&d.renderer, c) }

func (d *Dir) renderWith(r *haproxycfg.Renderer, c *haproxycfg.Config) (target, error) {
	valid, err := r.Valid(c)
	if err != nil {
		return target{}, err
	}
	dir, err := filepath.Abs(d.Path)
	if err != nil {
		return target{}, fmt.Errorf("deploy: %w", err)
	}
	files, err := valid.Render(filepath.ToSlash(dir))
	return target{config: valid, source: c, files: files}, err
}

// Apply makes c the configuration of the directory and of HAProxy, in these steps:
//
//  1. Apply renders c. If the directory already contains the same files, Apply returns false.
//  2. It calls Check. If Check fails, the old configuration stays.
//  3. It writes new maps, saves the old haproxy.cfg as the last good one, and replaces haproxy.cfg.
//     Each file is synced and renamed.
//  4. It calls Reload. If Reload fails, Apply puts the last good configuration back, reloads again,
//     and returns the error. In two cases, the new configuration stays instead, and the next Apply
//     reloads again: there is no last good configuration, or Check has accepted the files and no
//     HAProxy runs.
//  5. It removes the maps that no configuration names any more.
//
// The result "changed" is true if Apply has changed the configuration in the directory. It is false
// if Apply only finishes the reload of an earlier Apply.
//
// If ctx ends during the reload, the new configuration stays, and the next Apply reloads again.
//
// If only entries of maps differ, and HAProxy can change all of them at run time, the steps are:
//
//  1. Apply calls ReplaceMaps for Stable maps (see [haproxycfg.Map]) and SetMap for Runtime maps.
//  2. It replaces the files of the maps.
//  3. It calls CompareMaps. If CompareMaps, ReplaceMaps or SetMap fails, Apply reloads HAProxy.
//  4. It calls Check. Check is last here, because it takes seconds for a large configuration.
//
// If a file cannot be replaced, or if Check fails, Apply puts the old maps back and reloads HAProxy.
//
// With a Runtime, Apply changes servers and certificates without a reload where that is possible.
// [Plan.Effect] says what Apply has done.
func (d *Dir) Apply(ctx context.Context, c *haproxycfg.Config) (changed bool, err error) {
	t, err := d.render(c)
	if err != nil {
		return false, err
	}
	return d.locked(ctx, func() (bool, error) {
		if t, err = d.renderLive(c, t); err != nil {
			return false, fmt.Errorf("deploy: apply: %w", err)
		}
		return d.apply(ctx, t)
	})
}

// Plan is a configuration that Dir has rendered for its directory, and the difference from the
// configuration in the directory. A caller can show or limit the difference, and then apply exactly
// this configuration. [Dir.Plan] and [Plan.Apply] together take less time than [Dir.Diff] and
// [Dir.Apply].
type Plan struct {
	// Diff is the difference between the configuration in the directory when the plan was made, and
	// the configuration of the plan. It has the values that Dir.Diff returns, but its Text is empty.
	Diff Diff

	dir    *Dir
	config *haproxycfg.Config
	id     func() string // computes the result of ID once
	effect Effect
	before []haproxycfg.RenderedFile // the files in the directory when the plan was made; haproxy.cfg comes last
	after  target
}

// textBefore returns the text of haproxy.cfg in the directory at the time when the plan was made.
// It returns nil if the directory had no haproxy.cfg.
func (p *Plan) textBefore() []byte {
	if n := len(p.before); n > 0 {
		return p.before[n-1].Data
	}
	return nil
}

// Reloads reports whether Apply of the plan would reload HAProxy: a file differs, or an earlier
// Apply ended before HAProxy had loaded the files. It is false if Dir.Reload is nil.
//
// With Dir.Runtime, a difference of servers and values of variables needs no reload. But Reloads
// does not ask the running HAProxy, so Apply may reload HAProxy even if Reloads returned false; see
// [Runtime].
func (p *Plan) Reloads() bool {
	pending := exists(p.dir.file(pendingFile))
	if p.dir.Reload == nil || p.Diff.Empty() && !pending {
		return false
	}
	if !pending && p.onlyMaps() {
		return false
	}
	if p.dir.Runtime == nil {
		return true
	}
	p.dir.mu.Lock()
	defer p.dir.mu.Unlock()
	change, err := p.dir.liveChange(p.after, pending)
	return err != nil || change.reload != ""
}

// Check calls Dir.Check with the configuration of the plan. It does nothing if Dir.Check is nil, or
// if the plan changes no file. After a success, Apply of this plan does not call Dir.Check again.
func (p *Plan) Check(ctx context.Context) error {
	if p.after.checked || p.dir.Check == nil || p.Diff.Empty() {
		return nil
	}
	if err := p.dir.Check(ctx, p.after.config); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil { // the check can take seconds
		return fmt.Errorf("deploy: check: %w", err)
	}
	p.after.checked = true
	return nil
}

// Redirect makes the running HAProxy stop sending requests to the servers that the plan removes.
// Call it if you cannot apply the plan yet. If Dir.Redirect is nil, it does nothing.
func (p *Plan) Redirect(ctx context.Context) error { return p.redirect(ctx, p.after.text()) }

// RedirectBack undoes Redirect: HAProxy sends requests again to the servers that the plan removes.
// It does nothing if the directory contained no configuration when the plan was made, or if
// Dir.Redirect is nil.
func (p *Plan) RedirectBack(ctx context.Context) error {
	if before := p.textBefore(); before != nil {
		return p.redirect(ctx, before)
	}
	return nil
}

func (p *Plan) redirect(ctx context.Context, config []byte) error {
	if p.dir.Redirect == nil {
		return nil
	}
	if err := p.dir.at("redirect"); err != nil {
		return err
	}
	return p.dir.Redirect(ctx, config)
}

// ErrStalePlan is in the error of [Plan.Apply] if the directory has changed since the plan was
// made. The Diff of such a plan is wrong.
var ErrStalePlan = errors.New("deploy: the directory holds another configuration than when the plan was made")

// Plan renders c and compares it with the files in the directory. It writes nothing. The caller
// must not change c until the plan has been applied.
func (d *Dir) Plan(c *haproxycfg.Config) (*Plan, error) {
	p, err := d.plan(c)
	if err != nil {
		return nil, err
	}
	p.Diff = compareFiles(byLogicalName(p.before), byLogicalName(p.after.files), d.texts.sections)
	return p, nil
}

// Diff returns the difference between the configuration in the directory and c. It writes nothing.
// If the directory is empty or missing, everything in c is new.
func (d *Dir) Diff(c *haproxycfg.Config) (Diff, error) {
	p, err := d.plan(c)
	if err != nil {
		return Diff{}, err
	}
	return DiffFiles(p.before, p.after.files), nil
}

// plan returns a plan without its Diff.
func (d *Dir) plan(c *haproxycfg.Config) (*Plan, error) {
	after, err := d.render(c)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if after, err = d.renderLive(c, after); err != nil {
		return nil, fmt.Errorf("deploy: plan: %w", err)
	}
	before, err := d.current()
	if err != nil {
		return nil, fmt.Errorf("deploy: plan: %w", err)
	}
	return &Plan{dir: d, config: c, before: before, after: after, id: sync.OnceValue(after.id)}, nil
}

// ID identifies the configuration of the plan by its files: two plans for one directory have the
// same ID if and only if their files are the same, except for the values of maps whose field Runtime
// is true.
func (p *Plan) ID() string { return p.id() }

func (t target) id() string {
	h := sha256.New()
	h.Write(t.text()) // the text contains the name of each file, and the name contains a hash of the content
	for _, f := range t.files {
		if f.Stable { // the hash in the name does not depend on the content
			h.Write(f.Data)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// First reports whether the directory contained no configuration when the plan was made.
func (p *Plan) First() bool { return p.textBefore() == nil }

// ChangedAuxiliary compares auxiliary files (see [Plan.Apply]) with the directory. It returns the
// names of those files that the directory does not contain, or contains with another content. It
// writes nothing.
func (p *Plan) ChangedAuxiliary(files ...haproxycfg.RenderedFile) (names []string, err error) {
	for _, f := range files {
		same, err := inputfile.Equal(p.dir.file(f.Name), f.Data)
		if err != nil {
			return nil, fmt.Errorf("deploy: plan: %w", err)
		}
		if !same {
			names = append(names, f.Name)
		}
	}
	return names, nil
}

// Apply does the same as [Dir.Apply], and then writes the auxiliary files that differ, such as a
// report about the configuration, under the same lock. It writes them even if the configuration has
// not changed. Their names are relative to the directory, and must not be names that Dir itself
// uses.
//
// The result "changed" is true if Apply has changed the configuration or an auxiliary file. A
// caller may apply a plan several times.
func (p *Plan) Apply(ctx context.Context, auxiliary ...haproxycfg.RenderedFile) (changed bool, err error) {
	return p.ApplyWith(ctx, func() ([]haproxycfg.RenderedFile, error) { return auxiliary, nil })
}

// ApplyWith is Apply, but it gets the auxiliary files from a function. It calls the function after
// the configuration is in force, so a large file does not delay the configuration. If the function
// returns an error, ApplyWith writes no auxiliary file, and returns the error.
func (p *Plan) ApplyWith(ctx context.Context, auxiliary func() ([]haproxycfg.RenderedFile, error)) (changed bool, err error) {
	return p.dir.locked(ctx, func() (bool, error) {
		stale, err := p.isStale()
		if err != nil {
			return false, fmt.Errorf("deploy: apply: %w", err)
		}
		if stale {
			return false, fmt.Errorf("deploy: apply: %w", ErrStalePlan)
		}
		changed, err := p.dir.apply(ctx, p.after)
		p.effect = p.effectOf(p.dir.changes)
		if err != nil {
			return changed, err
		}
		files, err := auxiliary()
		if err != nil {
			return changed, fmt.Errorf("deploy: apply: the configuration is in force, but: %w", err)
		}
		wrote, err := p.dir.writeAuxiliary(files)
		return changed || wrote, err
	})
}

// isStale reports whether somebody has changed haproxy.cfg, or a stable map, since the plan was
// made. A file that already has the content of the plan does not make the plan stale.
func (p *Plan) isStale() (bool, error) {
	if stale, err := p.isOther(configFile, p.textBefore(), p.after.text()); stale || err != nil {
		return stale, err
	}
	for _, now := range p.after.files {
		i := slices.IndexFunc(p.before, func(f haproxycfg.RenderedFile) bool { return f.Name == now.Name })
		if !now.Stable || i < 0 {
			continue
		}
		if stale, err := p.isOther(now.Name, p.before[i].Data, now.Data); stale || err != nil {
			return stale, err
		}
	}
	return false, nil
}

// isOther reports whether the file has a third content: neither the content that it had when the
// plan was made (before), nor the content that the plan writes (after). If before is nil, the file
// did not exist when the plan was made.
func (p *Plan) isOther(name string, before, after []byte) (bool, error) {
	file := p.dir.file(name)
	if before == nil && !exists(file) {
		return false, nil
	}
	for _, known := range [][]byte{before, after} {
		if known == nil {
			continue
		}
		if same, err := inputfile.Equal(file, known); same || err != nil {
			return false, err
		}
	}
	return true, nil
}

// WriteAuxiliary writes files about the configuration, such as a report, under the directory's
// lock. The names must follow the rules of [Plan.Apply]. changed reports whether a file changed.
func (d *Dir) WriteAuxiliary(ctx context.Context, files ...haproxycfg.RenderedFile) (changed bool, err error) {
	return d.locked(ctx, func() (bool, error) { return d.writeAuxiliary(files) })
}

func (d *Dir) writeAuxiliary(files []haproxycfg.RenderedFile) (changed bool, err error) {
	for _, f := range files {
		if err := d.at("write " + f.Name); err != nil {
			return changed, fmt.Errorf("deploy: apply: %w", err)
		}
		wrote, err := atomicfile.Update(d.file(f.Name), f.Data, d.mode())
		changed = changed || wrote
		if err != nil {
			return changed, fmt.Errorf("deploy: apply: the configuration is in force, but: %w", err)
		}
	}
	return changed, nil
}

// locked calls f while it holds two locks: the mutex of this Dir, and the lock file, which excludes
// other processes.
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
	unlock, err := filelock.Lock(ctx, d.file(lockName))
	if err != nil {
		return false, fmt.Errorf("deploy: apply: %w", err)
	}
	defer unlock()
	if err := d.at("remove leftovers"); err != nil {
		return false, fmt.Errorf("deploy: apply: %w", err)
	}
	d.removeLeftovers()
	d.changes = changes{}
	return f()
}

func (d *Dir) apply(ctx context.Context, t target) (changed bool, err error) {
	written, err := d.compareOnDisk(t.files)
	if err != nil {
		return false, fmt.Errorf("deploy: apply: %w", err)
	}
	same := !slices.Contains(written, false)
	pending := d.Reload != nil && exists(d.file(pendingFile))
	if !same && !pending && d.onlyMaps(t.files, written) {
		return d.applyMaps(ctx, t, written)
	}
	if d.Runtime != nil && d.Reload != nil {
		return d.applyLive(ctx, t, written, same, pending)
	}
	if same && !pending {
		return false, nil
	}
	if !same {
		if changed, err = d.checkAndWrite(ctx, t, written, pending, true); err != nil {
			return changed, err
		}
	}
	if d.Reload != nil {
		restored, err := d.reload(ctx)
		if err != nil {
			return changed != restored, err
		}
	}
	if err := d.removeUnused(t.files); err != nil {
		return changed, fmt.Errorf("deploy: apply: the configuration is in force, but: %w", err)
	}
	return changed, nil
}

// checkAndWrite calls Check, and then writes the files that are not yet in the directory. The
// comment of the method "write" describes the arguments. The argument "reloads" says that HAProxy
// must load the files.
func (d *Dir) checkAndWrite(ctx context.Context, t target, written []bool, pending, reloads bool) (changed bool, err error) {
	if d.Check != nil && !t.checked {
		if err := d.check(ctx, t, reloads); err != nil {
			return false, err
		}
		if err := ctx.Err(); err != nil { // the check can take seconds
			return false, fmt.Errorf("deploy: apply: %w", err)
		}
	}
	if err := d.write(t.files, written, pending); err != nil {
		return false, fmt.Errorf("deploy: apply: %w", err)
	}
	return !written[len(written)-1], nil
}

// check calls Check. If the argument "reloads" is false, HAProxy makes the change at run time and
// need not load the files. Then check returns nil for an error that has ErrForeign: HAProxy has
// accepted the files of t, and only the foreign files have a fault.
func (d *Dir) check(ctx context.Context, t target, reloads bool) error {
	err := d.Check(ctx, t.config)
	if !reloads && errors.Is(err, ErrForeign) {
		return nil
	}
	return err
}

// reload makes HAProxy load the files. If HAProxy refuses them, reload puts the last good
// configuration back, reloads again and returns an error. The result "restored" is then true.
//
// If Check has accepted the files, there are two cases in which reload returns an error and keeps
// the files: no HAProxy runs (ErrNoMaster), or the running HAProxy does not load the fragment
// (ErrNotLoaded). The last good files would not be safer: perhaps another version of HAProxy has
// loaded them, and the present version would refuse them.
func (d *Dir) reload(ctx context.Context) (restored bool, err error) {
	if err := d.at("reload"); err != nil {
		return false, err
	}
	failed := d.Reload(ctx)
	if failed == nil {
		d.changes.reloaded = true
		return false, d.clearPending()
	}
	if ctx.Err() != nil || d.Check != nil && (errors.Is(failed, ErrNoMaster) || errors.Is(failed, ErrNotLoaded)) {
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
	if err := d.clearPending(); err != nil {
		return true, errors.Join(failed, err)
	}
	return true, fmt.Errorf("%w\n(the last good configuration is restored and in force)", failed)
}

// restore puts the last good configuration back and returns true. It returns false if there is no
// last good configuration, or if HAProxy has just failed to load this same configuration.
//
// If this Apply has replaced the content of maps, restore puts the old content back first. If maps
// were the only change, haproxy.cfg with the old maps is the last good configuration, and restore
// changes nothing else.
func (d *Dir) restore() (bool, error) {
	for _, f := range d.changes.replaced {
		if err := d.replace(f.Name, f.Data, d.mode()); err != nil {
			return false, err
		}
	}
	if len(d.changes.replaced) > 0 {
		if err := atomicfile.SyncDir(d.file(mapsDir)); err != nil || d.changes.onlyMaps {
			return err == nil, err
		}
	}
	good, err := readOptional(d.file(lastGoodFile))
	if err != nil || good == nil {
		return false, err
	}
	now, err := readOptional(d.file(configFile))
	if err != nil || bytes.Equal(good, now) {
		return false, err
	}
	err = d.replace(configFile, good, d.mode())
	return err == nil, err
}

// clearPending removes pendingFile. Call it when HAProxy runs the files of the directory.
func (d *Dir) clearPending() error {
	if err := d.at("clear pending"); err != nil {
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

// The caller calls the method "at" just before each step of Dir that has an effect, such as a write
// or a reload. The argument "step" is the name of the step. If the method returns an error, usually
// the error of d.Guard, the caller must not take the step.
func (d *Dir) at(step string) error {
	if d.Guard != nil {
		if err := d.Guard(); err != nil {
			return fmt.Errorf("stopped before step %q: %w", step, err)
		}
	}
	if d.beforeStep == nil {
		return nil
	}
	return d.beforeStep(step)
}

// ConfigFile returns the path of the current haproxy.cfg. The path is absolute, unless the working
// directory of the process is unknown.
func (d *Dir) ConfigFile() string {
	file := d.file(configFile)
	if path, err := filepath.Abs(file); err == nil {
		return path
	}
	return file
}

func (d *Dir) file(name string) string { return filepath.Join(d.Path, filepath.FromSlash(name)) }

// modeOf returns the mode of a rendered file.
func (d *Dir) modeOf(f haproxycfg.RenderedFile) fs.FileMode {
	if f.Private {
		return cmp.Or(d.PrivateMode.Perm(), 0o600)
	}
	return d.mode()
}

func (d *Dir) mode() fs.FileMode {
	if d.Mode == 0 {
		return 0o644
	}
	return d.Mode.Perm()
}

// dirMode returns the mode of directories: Mode with all bits for the owner, and with an execute
// bit for each read bit.
func (d *Dir) dirMode() fs.FileMode {
	m := d.mode()
	return m | m&0o444>>2 | 0o700
}
