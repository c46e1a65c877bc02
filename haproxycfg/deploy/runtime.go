package deploy

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// Runtime changes a running HAProxy without a reload, if only servers, entries of maps,
// certificates (haproxycfg.CertificateList), variables (haproxycfg.Global.Variables) and, from
// HAProxy 3.4 on, backends change. Use it as Dir.Runtime. The [Dir] also needs a Reload, for all
// other changes.
//
// Apply first writes the files. Then it changes certificates, adds backends with their servers, adds
// servers to backends without a server in service, changes the maps, makes all other changes of
// servers, and deletes backends. It reloads HAProxy if
//
//   - a command has failed;
//   - the options have changed in the lines of more than MaxReplaced servers;
//   - something has changed that a Runtime never changes, such as a time-out;
//   - an entry has changed in a map that Dir cannot change at run time;
//   - a backend, a certificate or a server has changed that HAProxy cannot change at run time.
//
// HAProxy cannot add or delete a backend at run time if
//
//   - HAProxy is older than 3.4;
//   - the backend has a stick table;
//   - a rule of the configuration, and not an entry of a map, names the backend;
//   - servers of other backends track its servers;
//   - the backend is new, and no backend in force has the same settings.
//
// HAProxy cannot change a certificate at run time if
//
//   - the certificate is gone, and its fingerprint is unknown;
//   - the certificate is new or renewed, and larger than runtimeapi.MaxCertificate;
//   - after the change, the certificate that HAProxy chooses for some name would not be the first one
//     in the list that covers this name.
//
// HAProxy cannot change a server at run time if
//
//   - HAProxy is older than 3.0, and the backend needs more slots, or the options in the line of the
//     server have changed;
//   - the server is new, and tracks a new server;
//   - the backend chooses servers by a hash.
//
// Each Apply compares the servers of the running HAProxy with the files, and corrects them. So it
// completes an interrupted Apply, and corrects servers that somebody has added or deleted by hand.
// It keeps the maintenance, the drain and the weights that a person or an agent has set, and the
// state of health checks, see [runtimeapi.Actual.Plan].
type Runtime struct {
	// Stats is the stats socket of HAProxy, haproxycfg.Global.StatsSocket.
	Stats runtimeapi.Socket
	// Master is the socket of the master process, through which Apply changes the worker that
	// serves new connections. The zero Socket means that Apply uses Stats. Then a command soon
	// after a reload may reach the old worker, which accepts connections until it has noticed the
	// reload.
	Master runtimeapi.Socket
	// Wait is the longest time that Apply waits for the connections of removed servers to end; 0
	// means 1s. If a server still has connections after this time, it stays in maintenance, and a
	// later Apply deletes it.
	Wait time.Duration
	// MaxReplaced is the largest number of servers that one Apply deletes and adds again because
	// their options have changed. Each of these servers can take up to Wait. 0 means 10. For more
	// servers, Apply reloads HAProxy.
	MaxReplaced int
	// ChangedOnly is for configurations with thousands of servers: Apply compares the running
	// HAProxy with the files only in backends whose server lines differ between the old and the new
	// files. So if somebody has changed a server by hand in another backend, Apply does not correct
	// it. After a reload, Apply trusts that HAProxy has the servers of the files, so Dir.Reload
	// must restore their states: see Reloader.Config.
	ChangedOnly bool
	// Changed, if not nil, receives the result of each Apply that has changed the running HAProxy,
	// or has found that HAProxy needs a reload.
	Changed func(RuntimeChange)

	// busy contains the removed servers that HAProxy still has in maintenance, because they had
	// connections or HAProxy cannot delete them. A key is "backend/server", and the value is the
	// options in the line of the server (Add of textServers). If a later configuration contains the
	// same server, Apply only ends its maintenance. mu of the Dir guards busy.
	busy map[string]string
	// leftover contains the removed backends that HAProxy still has, because requests still use them.
	// Each Apply tries to delete these backends. A key is the name of a backend, and the value is the
	// name of the section "defaults" with its settings. mu of the Dir guards leftover.
	leftover map[string]string
}

// RuntimeChange describes what an Apply has changed in the running HAProxy.
type RuntimeChange struct {
	// Commands is the number of commands that HAProxy has carried out. Each command changes one
	// server, one backend or one variable.
	Commands int
	// Maps is the number of maps that have changed.
	Maps int
	// Certificates is the number of certificates that are new, replace others, or are gone.
	Certificates int
	// Busy names the removed servers that still have connections. Each name is "backend/server".
	Busy []string
	// Reload is the reason why HAProxy needs a reload. It is "" if HAProxy needs none.
	Reload string
}

const (
	defaultRuntimeWait = time.Second
	defaultMaxReplaced = 10

	variablePatience = 5 * time.Second
	variableRetry    = 10 * time.Millisecond
)

// liveChange is a change from the configuration that HAProxy runs to the wanted configuration. It
// contains the servers of both configurations, and the variables, maps and certificates that
// differ. If HAProxy cannot make the change at run time, the field "reload" contains the reason.
type liveChange struct {
	before, wanted []runtimeapi.Backend
	gone           map[string]string // the backends to delete, see backendChanges
	variables      []variable
	words          map[string]string         // the words of the servers before the change, by "backend/server"
	maps, oldMaps  []haproxycfg.RenderedFile // the maps whose entries differ, and their old content
	certificates   []certificateChange
	// reload is the reason why HAProxy must load its files. It is "" if HAProxy need not load them.
	reload string
}

// liveChange returns the difference between the files in the directory and the new configuration t.
// Call it before you replace the files. If pending is true, HAProxy runs either the files in the
// directory or the last good configuration.
func (d *Dir) liveChange(t target, pending bool) (liveChange, error) {
	disk, err := readOptional(d.file(configFile))
	if err != nil {
		return liveChange{}, err
	}
	if disk == nil {
		return liveChange{wanted: wantedServers(t.text(), t.source), reload: "HAProxy gets its first configuration"}, nil
	}
	good := disk // the files that HAProxy has certainly loaded
	if pending {
		if good, err = readOptional(d.file(lastGoodFile)); err != nil {
			return liveChange{}, err
		}
		if good == nil {
			return liveChange{wanted: wantedServers(t.text(), t.source), reload: "HAProxy may not have loaded its first configuration"}, nil
		}
	}
	change := d.Runtime.compareLive(good, disk, t)
	var reason string
	if change.certificates, reason, err = d.certificateChanges(good, disk, t); err != nil {
		return liveChange{}, err
	}
	change.reload = cmp.Or(reason, change.reload)
	for _, f := range t.files {
		if !f.Runtime && !f.Stable || change.reload != "" {
			continue
		}
		values, err := readOptional(d.file(f.Name))
		if err != nil {
			return liveChange{}, err
		}
		switch {
		case bytes.Equal(values, f.Data) && !pending:
		case f.Stable && d.ReplaceMaps == nil || f.Runtime && d.SetMap == nil:
			if !bytes.Equal(values, f.Data) {
				change.reload = f.Name + " has changed"
			}
		default:
			change.maps = append(change.maps, f)
			if !pending { // otherwise HAProxy may have other entries than the file
				change.oldMaps = append(change.oldMaps, haproxycfg.RenderedFile{Name: f.Name, Data: values})
			}
		}
	}
	return change, nil
}

// compareLive returns the change that makes the running HAProxy serve the configuration of t. The
// argument "good" is the text of the haproxy.cfg that HAProxy has certainly loaded. The argument
// "disk" is the text of the haproxy.cfg in the directory. After an interrupted Apply, the two texts
// differ, and HAProxy may already have some of the changes from "good" to "disk".
func (r *Runtime) compareLive(good, disk []byte, t target) liveChange {
	after := t.text()
	change := liveChange{
		wanted:    wantedServers(after, t.source),
		variables: changedVariables(after, good, disk),
	}
	var backends backendChanges
	if bytes.Equal(good, disk) {
		backends, change.reload = otherChange(good, after, true)
	} else { // HAProxy may have some of the new backends of disk, perhaps without their servers
		for _, text := range [][]byte{good, disk} {
			_, reload := otherChange(text, after, false)
			change.reload = cmp.Or(change.reload, reload)
		}
	}
	now, before := textServers(after), textServers(good)
	if change.reload == "" {
		change.reload = goneAndTracked(before, backends)
	}
	change.words = wordsOf(before)
	most := 0
	if t.source != nil && t.source.Global.Version.AtLeast(3, 0) {
		most = r.maxReplaced()
	}
	reason := cannotChange(before, now, change.wanted, r.busy, most)
	if !bytes.Equal(good, disk) {
		written := textServers(disk)
		change.words = wordsOf(written, before)
		reason = cmp.Or(reason, cannotChange(written, now, change.wanted, r.busy, most))
		before = runtimeapi.Unsettled(before, written)
	}
	change.reload = cmp.Or(change.reload, reason)
	change.before = withCommands(before, now, change.wanted)
	if change.reload == "" {
		change.reload = r.changeBackends(&change, backends)
	}
	return change
}

// goneAndTracked returns a reason for a reload if servers of other backends tracked the servers of a
// removed backend. Otherwise it returns "". The argument "before" contains the backends before the
// change.
func goneAndTracked(before []runtimeapi.Backend, backends backendChanges) string {
	for _, b := range before {
		if _, gone := backends.gone[b.Name]; gone && b.Tracked {
			return "backend " + b.Name + " is gone, and other servers tracked its servers"
		}
	}
	return ""
}

// changeBackends adds the changes of backends to c. It returns the reason why HAProxy cannot make
// them at run time, or "".
func (r *Runtime) changeBackends(c *liveChange, backends backendChanges) (reload string) {
	stays := map[string]bool{}
	for i := range c.wanted {
		b := &c.wanted[i]
		stays[b.Name] = true
		from, added := backends.added[b.Name]
		if !added {
			continue
		}
		b.Add = "add backend " + b.Name + " from " + from
		switch was, left := r.leftover[b.Name]; {
		case left && was != from:
			return "backend " + b.Name + " has other settings, and HAProxy could not delete it yet"
		case left:
			c.before = append(c.before, runtimeapi.Backend{Name: b.Name})
		}
	}
	c.gone = map[string]string{}
	maps.Copy(c.gone, backends.gone)
	for name, from := range r.leftover {
		if !stays[name] {
			c.gone[name] = from
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.gone)) {
		c.wanted = append(c.wanted, runtimeapi.Backend{Name: name, Delete: true})
	}
	return ""
}

func (r *Runtime) maxReplaced() int { return cmp.Or(max(r.MaxReplaced, 0), defaultMaxReplaced) }

// wordsOf returns the field Add of each server. A key of the result has the form "backend/server".
// If several arguments contain the same server, the result has the field Add from the last of these
// arguments.
func wordsOf(configs ...[]runtimeapi.Backend) map[string]string {
	words := map[string]string{}
	for _, config := range configs {
		for _, b := range config {
			for _, s := range b.Servers {
				words[b.Name+"/"+s.Name] = s.Add
			}
		}
	}
	return words
}

// wantAgain prevents a needless reload. The keys of "busy" are removed servers that HAProxy could
// not delete because of their connections. If the new configuration contains such a server with the
// same options, wantAgain adds the server to c.before, as a server in maintenance. The plan then
// only ends the maintenance. Otherwise the plan would replace the server, which HAProxy refuses.
func (c *liveChange) wantAgain(after []byte, busy map[string]string) {
	if len(busy) == 0 {
		return
	}
	words := wordsOf(textServers(after))
	commands := wordsOf(c.wanted)
	for i := range c.before {
		b := &c.before[i]
		for name, text := range busy {
			server, ok := strings.CutPrefix(name, b.Name+"/")
			if ok && words[name] == text {
				b.Servers = append(b.Servers, runtimeapi.Server{Name: server, Add: commands[name], Maint: true, Weight: -1})
			}
		}
	}
}

// afterReload returns the changes that are still necessary at run time after HAProxy has loaded the
// wanted configuration. All servers then have the new options of their server lines. But some
// servers may have an older address, weight or state from the state file.
func (c liveChange) afterReload() liveChange {
	loaded := liveChange{}
	earlier := map[string]runtimeapi.Server{}
	for _, b := range c.before {
		for _, s := range b.Servers {
			earlier[b.Name+"/"+s.Name] = s
		}
	}
	loaded.wanted = slices.DeleteFunc(slices.Clone(c.wanted), func(b runtimeapi.Backend) bool { return b.Delete })
	for _, b := range loaded.wanted {
		now := runtimeapi.Backend{Name: b.Name}
		for _, s := range b.Servers {
			was, ok := earlier[b.Name+"/"+s.Name]
			if !ok {
				was = runtimeapi.Server{Name: s.Name, Maint: true, Weight: s.Weight}
			}
			was.Add = s.Add
			now.Servers = append(now.Servers, was)
		}
		loaded.before = append(loaded.before, now)
	}
	return loaded
}

// afterReloadChangedOnly is afterReload for a Runtime with ChangedOnly. The change only ends the
// maintenance of servers that are in "busy" and in the new configuration. HAProxy may have read
// this maintenance from the state file at the reload.
func (c liveChange) afterReloadChangedOnly(busy map[string]string) liveChange {
	again := liveChange{}
	for _, b := range c.wanted {
		now := b
		now.Servers = slices.Clone(b.Servers)
		found := false
		for i, s := range b.Servers {
			if _, ok := busy[b.Name+"/"+s.Name]; ok {
				now.Servers[i].Maint, found = true, true
			}
		}
		if found {
			again.before, again.wanted = append(again.before, now), append(again.wanted, b)
		}
	}
	return again
}

// changedOnly removes from c the backends whose servers are the same before and after the change,
// except those with a server in the map "busy".
func (c *liveChange) changedOnly(busy map[string]string) {
	earlier := make(map[string]runtimeapi.Backend, len(c.before))
	for _, b := range c.before {
		earlier[b.Name] = b
	}
	touched := map[string]bool{}
	for name := range busy {
		backend, _, _ := strings.Cut(name, "/")
		touched[backend] = true
	}
	before := []runtimeapi.Backend{} // not nil, because nil means to a plan that it is unknown
	var wanted []runtimeapi.Backend
	for _, b := range c.wanted {
		was, ok := earlier[b.Name]
		if ok && !touched[b.Name] && !b.Delete && sameServers(was.Servers, b.Servers) {
			continue
		}
		wanted = append(wanted, b)
		if ok {
			before = append(before, was)
		}
	}
	c.before, c.wanted = before, wanted
}

// sameServers reports whether both lists contain the same servers, in any order.
func sameServers(a, b []runtimeapi.Server) bool {
	if len(a) != len(b) {
		return false
	}
	if slices.Equal(a, b) {
		return true
	}
	byName := func(x, y runtimeapi.Server) int { return strings.Compare(x.Name, y.Name) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), byName), slices.SortedFunc(slices.Values(b), byName))
}

// applyLive does the work of [Dir.apply] for a Dir with a Runtime.
func (d *Dir) applyLive(ctx context.Context, t target, written []bool, same, pending bool) (changed bool, err error) {
	change, err := d.liveChange(t, pending)
	if err != nil {
		return false, fmt.Errorf("deploy: apply: %w", err)
	}
	change.wantAgain(t.text(), d.Runtime.busy)
	if d.Runtime.ChangedOnly && same && !pending && len(d.Runtime.busy)+len(d.Runtime.leftover) == 0 {
		return false, nil
	}
	if !same {
		if changed, err = d.checkAndWrite(ctx, t, written, pending, change.reload != ""); err != nil {
			return changed, err
		}
	}
	if change.reload == "" {
		if change.reload, err = d.Runtime.change(ctx, d, change); err != nil {
			return changed, fmt.Errorf("deploy: apply: the files are written, but: %w", err)
		}
		d.changes.reason = change.reload
	} else if !same || pending {
		d.changes.reason = change.reload
		d.Runtime.changed(RuntimeChange{Reload: change.reload})
	}
	if change.reload == "" {
		if !same || pending {
			if err := d.clearPending(); err != nil {
				return changed, err
			}
		}
	} else if restored, err := d.reloadLive(ctx, t, change); err != nil {
		return changed != restored, err
	}
	if same && !pending {
		return false, nil
	}
	if err := d.removeUnused(t.files); err != nil {
		return changed, fmt.Errorf("deploy: apply: the configuration is in force, but: %w", err)
	}
	return changed, nil
}

// reloadLive reloads HAProxy, and then changes the servers whose state in HAProxy still differs
// from the files. If HAProxy refuses the files and loads the last good files again, the result
// "restored" is true, and reloadLive changes the servers to the state that the last good files
// contain.
func (d *Dir) reloadLive(ctx context.Context, t target, change liveChange) (restored bool, err error) {
	if err := d.markPending(); err != nil {
		return false, err
	}
	busy := d.Runtime.busy
	d.Runtime.busy, d.Runtime.leftover = nil, nil
	restored, err = d.reload(ctx)
	loaded := func(c liveChange) liveChange {
		if d.Runtime.ChangedOnly {
			return c.afterReloadChangedOnly(busy)
		}
		return c.afterReload()
	}
	switch {
	case restored:
		good, readErr := readOptional(d.file(configFile))
		if readErr != nil || good == nil {
			return true, err
		}
		back := d.Runtime.compareLive(good, t.text(), target{files: []haproxycfg.RenderedFile{{Name: configFile, Data: good}}})
		if reason, backErr := d.Runtime.change(ctx, d, loaded(back)); reason != "" || backErr != nil {
			err = errors.Join(err, backErr, notInForce(reason))
		}
		return true, err
	case err != nil:
		return false, err
	}
	reason, err := d.Runtime.change(ctx, d, loaded(change))
	if err == nil {
		err = notInForce(reason)
	}
	if err != nil {
		return false, fmt.Errorf("deploy: apply: HAProxy has loaded the files, but: %w", err)
	}
	return false, nil
}

func notInForce(reason string) error {
	if reason == "" {
		return nil
	}
	return errors.New("deploy: the servers of HAProxy differ from the files: " + reason)
}

// markPending creates pendingFile in the directory. While this file exists, the files in the
// directory may differ from the configuration that HAProxy runs, so the next Apply must make
// HAProxy use them.
func (d *Dir) markPending() error {
	if exists(d.file(pendingFile)) {
		return nil
	}
	if err := d.createEmpty(pendingFile); err != nil {
		return fmt.Errorf("deploy: apply: %w", err)
	}
	return nil
}

// change carries out c: it changes the certificates, variables, servers and maps of the running
// HAProxy. If HAProxy must be reloaded instead, the result "reload" is the reason. An error means
// that HAProxy cannot be reached, that ctx has ended, or that the Guard of d has returned an error.
func (r *Runtime) change(ctx context.Context, d *Dir, c liveChange) (reload string, err error) {
	if r.ChangedOnly {
		if c.changedOnly(r.busy); len(c.wanted)+len(c.variables)+len(c.maps)+len(c.certificates) == 0 {
			return "", nil
		}
	}
	worker, err := r.Worker(ctx)
	if err != nil {
		return "", err
	}
	actual, err := r.actual(ctx, worker, c.wanted)
	if err != nil {
		return "", unreachable(err)
	}
	plan := actual.Plan(c.before, c.wanted)
	plan.Wait = cmp.Or(max(r.Wait, 0), defaultRuntimeWait)
	if n := r.maxReplaced(); plan.Replaced > n {
		plan.Reload = append(plan.Reload, runtimeapi.Reason{Text: fmt.Sprintf("%d servers have other words, more than %d", plan.Replaced, n)})
	}
	if len(plan.Reload) > 0 {
		reload = joinReasons(plan.Reload)
		r.changed(RuntimeChange{Reload: reload})
		return reload, nil
	}
	if len(plan.Commands)+len(c.variables)+len(c.maps)+len(c.certificates) == 0 {
		r.remember(plan.Kept, c.words)
		r.leftover = nil
		return "", nil
	}
	if err := d.at("change servers"); err != nil {
		return "", err
	}
	var done RuntimeChange
	var backends []string                   // that HAProxy could not delete
	for _, change := range c.certificates { // before the maps, which may contain a new host
		if err = change.send(ctx, worker); err != nil {
			break
		}
		done.Certificates += change.count()
	}
	for _, v := range c.variables {
		if err != nil {
			break
		}
		if err = r.setVariable(ctx, worker, v.name, v.value); err != nil {
			break
		}
		done.Commands++
	}
	first, rest := plan, plan
	first.Commands, rest.Commands = plan.Commands[:plan.First], plan.Commands[plan.First:]
	apply := func(p runtimeapi.Plan) {
		if err != nil || len(p.Commands) == 0 {
			return
		}
		var result runtimeapi.Result
		result, err = worker.Apply(ctx, p)
		done.Commands += result.Done
		done.Busy = append(done.Busy, result.Busy...)
		backends = append(backends, result.Backends...)
	}
	apply(first)
	if err == nil && len(c.maps) > 0 {
		var stable []runtimeapi.MapContent
		if stable, err = d.sendMaps(ctx, c.maps, c.oldMaps, false); err == nil {
			err = d.compareMaps(ctx, stable)
		}
		if err == nil {
			done.Maps = len(c.maps)
		}
	}
	apply(rest)
	r.remember(slices.Concat(done.Busy, plan.Kept), c.words)
	r.leftover = map[string]string{}
	for _, name := range backends {
		r.leftover[name] = c.gone[name]
	}
	d.changes.maps, d.changes.servers, d.changes.certificates = done.Maps, done.Commands, done.Certificates
	if ctx.Err() != nil {
		return "", err
	}
	if err != nil {
		done.Reload, d.changes.refused = err.Error(), err
	}
	r.changed(done)
	return done.Reload, nil
}

// manyBackends is a number of backends. If there are more, one command for the servers of all
// backends takes less time than one command for each backend.
const manyBackends = 50

// actual returns the state of the running HAProxy, with at least the servers of the wanted backends.
func (r *Runtime) actual(ctx context.Context, worker runtimeapi.Socket, wanted []runtimeapi.Backend) (runtimeapi.Actual, error) {
	if !r.ChangedOnly || len(wanted) > manyBackends {
		return worker.Actual(ctx)
	}
	names := make([]string, len(wanted))
	for i, b := range wanted {
		names[i] = b.Name
	}
	return worker.ActualOf(ctx, names...)
}

// Worker returns the socket of the worker that serves new connections. With Master, it asks the
// master for this worker, and otherwise it returns Stats. It is safe for concurrent use.
func (r *Runtime) Worker(ctx context.Context) (runtimeapi.Socket, error) {
	if r.Master.Path == "" {
		return r.Stats, nil
	}
	worker, err := Reloader{Master: r.Master}.worker(ctx)
	if err != nil {
		return runtimeapi.Socket{}, unreachable(fmt.Errorf("deploy: %w", err))
	}
	return worker, nil
}

// WorkerStats returns the statistics of each worker, as Workers.Stats does. If Master is not set,
// WorkerStats returns only the statistics of the worker behind Stats. WorkerStats is safe for
// concurrent use.
func (r *Runtime) WorkerStats(ctx context.Context) ([][]runtimeapi.Stat, error) {
	if r.Master.Path != "" {
		return Workers{Master: r.Master}.Stats(ctx)
	}
	stats, err := r.Stats.Stats(ctx)
	return [][]runtimeapi.Stat{stats}, err
}

// SetVariable sets a variable in the worker that serves new connections, as
// [runtimeapi.Socket.SetVariable] does. It does not change the files. It is safe for concurrent
// use, also while Apply runs.
func (r *Runtime) SetVariable(ctx context.Context, name string, value int) error {
	worker, err := r.Worker(ctx)
	if err != nil {
		return err
	}
	return r.setVariable(ctx, worker, name, value)
}

// setVariable sets a variable in one worker of HAProxy. It can send the command only to r.Stats,
// where an old worker may receive it. So it then reads the variable from the right worker, and
// repeats the command, at most for 5 s, until the value is right.
func (r *Runtime) setVariable(ctx context.Context, worker runtimeapi.Socket, name string, value int) error {
	began := time.Now()
	for {
		if err := r.Stats.SetVariable(ctx, name, value); err != nil || worker == r.Stats {
			return err
		}
		got, err := worker.Variable(ctx, name)
		if err == nil && got == value {
			return nil
		}
		if time.Since(began) > variablePatience {
			return cmp.Or(err, fmt.Errorf("deploy: the variable %s of the current worker is %d, not %d", name, got, value))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(variableRetry):
		}
	}
}

// remember stores in r.busy the removed servers "busy", which still have connections. words
// contains the options of the servers before the change; see r.busy.
func (r *Runtime) remember(busy []string, words map[string]string) {
	before := r.busy
	r.busy = map[string]string{}
	for _, name := range busy {
		if text, ok := words[name]; ok {
			r.busy[name] = text
		} else if text, ok := before[name]; ok {
			r.busy[name] = text
		}
	}
}

func (r *Runtime) changed(c RuntimeChange) {
	if r.Changed != nil {
		r.Changed(c)
	}
}

// unreachable adds ErrNoMaster to an error if no HAProxy listens at the socket.
func unreachable(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w: %w", ErrNoMaster, err)
	}
	return err
}

// joinReasons returns up to three reasons as one text.
func joinReasons(reasons []runtimeapi.Reason) string {
	const most = 3
	var texts []string
	for _, r := range reasons[:min(most, len(reasons))] {
		if r.Backend == "" {
			texts = append(texts, r.Text)
		} else {
			texts = append(texts, r.String())
		}
	}
	if more := len(reasons) - most; more > 0 {
		texts = append(texts, fmt.Sprintf("%d further reasons", more))
	}
	return strings.Join(texts, "; ")
}
