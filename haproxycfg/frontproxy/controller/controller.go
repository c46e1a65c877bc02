package controller

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/internal/inputfile"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// MinInterval is the shortest time between the end of one change of HAProxy and the start of the
// next.
const MinInterval = 50 * time.Millisecond

const (
	recheckInterval      = 30 * time.Second // longest time between two attempts, even if no input changes
	sourceRetry          = time.Second      // time after which the controller calls Follow of a source again
	minBackoff           = time.Second      // pause after the first failed attempt
	defaultFirstPodsWait = time.Second
)

// Controller configures the HAProxy of one front proxy. Set the fields before Run, and do not
// change them later. The other methods are safe for concurrent use.
type Controller struct {
	// Proxy describes the front proxy. Proxy.Settings apply until Run has read Policy.
	Proxy frontproxy.Proxy
	// Source follows the pods. nil means that there are no pods: use this with Proxy.LocalPort.
	Source Source
	// Policy names a file with the settings. When the file changes, the Controller reads it again.
	// nil means that Proxy.Settings always apply.
	Policy *PolicyFile
	// Dir is the directory of the configuration. Its fields say how to check the configuration, and
	// how to change the running HAProxy. Dir and its field Runtime must not be nil.
	Dir *deploy.Dir
	// Version returns the version of HAProxy; [deploy.Checker.Version] is such a function. The
	// Controller calls it at the start and every 30 s. nil means Proxy.Global.Version.
	Version func(context.Context) (haproxycfg.Version, error)
	// Override, if not nil, changes the settings of Policy, for example to apply flags.
	Override func(*frontproxy.Settings)
	// FirstPodsWait is how long the Controller waits for the first answer of Source before it writes
	// the first configuration; 0 means 1 s. If Source answers in this time, the first configuration
	// contains the pods.
	FirstPodsWait time.Duration
	// Changed, if not nil, receives each new status, one call at a time.
	Changed func(Status)

	mu        sync.Mutex
	wake      chan struct{} // the method init makes it
	update    Update
	settings  frontproxy.Settings
	policyErr error
	draining  bool
	status    Status
	traffic   Traffic
	budget    *haproxycfg.RetryBudget // nil if HAProxy itself counts repetitions, or if there is no budget

	// Only the goroutine of the method "loop" uses the fields below.
	expected Expected
	saved    map[string]int // the numbers of pods that the file contains
	savedAt  time.Time
	slots    frontproxy.Slots
	version  haproxycfg.Version
	checked  time.Time // when the controller last read the version

	reporting sync.Mutex
	reading   sync.Mutex // readTraffic holds it, so that counters arrive in the order in which readTraffic has read them
}

func (c *Controller) init() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wake == nil {
		c.wake = make(chan struct{}, 1)
		c.settings = c.Proxy.Settings
		c.version = c.Proxy.Global.Version
	}
}

// notify makes the loop read its inputs again.
func (c *Controller) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run follows the source and the policy, and applies each change, until ctx ends. It returns the
// error of ctx.
func (c *Controller) Run(ctx context.Context) error {
	c.init()
	if c.Policy != nil { // the first attempt needs the settings
		s, ok, err := c.Policy.Read()
		if ok {
			c.policyChanged(s, nil)
		}
		c.mu.Lock()
		c.policyErr = err
		c.mu.Unlock()
	}
	group, ctx := errgroup.WithContext(ctx)
	if c.Source != nil {
		group.Go(func() error { return c.followSource(ctx) })
	}
	if c.Policy != nil {
		group.Go(func() error { c.Policy.Follow(ctx, c.policyChanged); return ctx.Err() })
	}
	group.Go(func() error { return c.loop(ctx) })
	group.Go(func() error { return c.switchRetries(ctx) })
	return group.Wait()
}

func (c *Controller) followSource(ctx context.Context) error {
	for {
		err := c.Source.Follow(ctx, func(u Update) {
			c.mu.Lock()
			if !u.Known {
				u.Known, u.Pods = c.update.Known, c.update.Pods
			}
			c.update = u
			c.mu.Unlock()
			c.notify()
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.mu.Lock()
		c.update.Err = cmp.Or(err, errors.New("the source of the pods has ended"))
		if c.update.Since.IsZero() {
			c.update.Since = time.Now()
		}
		c.mu.Unlock()
		c.notify()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(sourceRetry):
		}
	}
}

func (c *Controller) policyChanged(s frontproxy.Settings, err error) {
	c.mu.Lock()
	c.policyErr = err
	if err == nil {
		if c.Override != nil {
			c.Override(&s)
		}
		c.settings = s
	}
	c.mu.Unlock()
	c.notify()
}

// SetDraining begins or ends a drain, in which HAProxy still serves every request: the monitor page
// answers 503, and HAProxy closes the connection of each HTTP/1 client after the next answer.
//
// SetDraining does not wait for a change in progress. If HAProxy does not answer within 1 s,
// SetDraining returns, and the next change begins or ends the drain.
func (c *Controller) SetDraining(draining bool) {
	c.init()
	c.mu.Lock()
	c.draining = draining
	c.mu.Unlock()
	c.notify()
	_ = c.switchDrain(context.Background(), draining) // the loop repeats it
}

// switchDrain begins or ends a drain in the running HAProxy.
func (c *Controller) switchDrain(ctx context.Context, draining bool) error {
	value := 0
	if draining {
		value = 1
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return c.Dir.Runtime.SetVariable(ctx, frontproxy.Draining, value)
}

// Recheck makes the Controller compare HAProxy with the pods and the settings soon, even if neither
// pods nor settings change. Call Recheck after a restart of HAProxy. Without Recheck, the
// Controller compares every 30 s.
func (c *Controller) Recheck() {
	c.init()
	c.notify()
}

// Status returns the current status.
func (c *Controller) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

func (c *Controller) setStatus(change func(*Status)) {
	c.reporting.Lock()
	defer c.reporting.Unlock()
	c.mu.Lock()
	before := c.status
	change(&c.status)
	after := c.status
	c.mu.Unlock()
	if c.Changed != nil && !after.equal(before) {
		c.Changed(after)
	}
}

// loop calls the method "attempt" until ctx ends. This method applies the present inputs to
// HAProxy. loop calls it after each change of an input, when the expected number of pods falls,
// soon after an error, and at the latest after recheckInterval.
func (c *Controller) loop(ctx context.Context) error {
	c.slots = c.readSlots()
	if c.Source != nil {
		err := c.readExpected(time.Now())
		c.setStatus(func(s *Status) { s.ExpectedErr = err })
	}
	c.waitForFirstPods(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	backoff := minBackoff
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.wake:
		case <-timer.C:
		}
		err := c.attempt(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		now := time.Now()
		next := now.Add(recheckInterval)
		if err != nil {
			next = now.Add(backoff)
			backoff = min(2*backoff, recheckInterval)
		} else {
			backoff = minBackoff
			if falls := c.expected.Next(); !falls.IsZero() && falls.Before(next) {
				next = falls
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(MinInterval):
		}
		timer.Reset(max(time.Until(next), 0))
	}
}

func (c *Controller) waitForFirstPods(ctx context.Context) {
	if c.Source == nil {
		return
	}
	end := time.After(cmp.Or(c.FirstPodsWait, defaultFirstPodsWait))
	for {
		c.mu.Lock()
		known := c.update.Known
		c.mu.Unlock()
		if known {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-c.wake:
		}
	}
}

// attempt applies the current inputs.
func (c *Controller) attempt(ctx context.Context) error {
	c.readVersion(ctx)
	c.mu.Lock()
	update, settings, policyErr, draining := c.update, c.settings, c.policyErr, c.draining
	c.mu.Unlock()

	now := time.Now()
	inService := endpoints.InService(update.Pods)
	var expectedErr error
	if update.Known {
		c.expected.Update(now, inService)
		expectedErr = c.saveExpected(now)
	}
	zones := c.zones(now, update.Pods, inService)
	expected := expectedIn(zones, c.Proxy.Zone)
	var applied bool
	var servers []ServerStatus
	var err error
	if c.Source == nil || update.Known || !c.hasFiles() {
		applied, servers, err = c.apply(ctx, settings, inService, expected, draining, now)
		if err != nil {
			_ = c.switchDrain(ctx, draining) // SetDraining may have failed
		}
	} else { // the files may contain the drain of an earlier process
		err = c.switchDrain(ctx, draining)
	}
	c.setStatus(func(s *Status) {
		s.Version, s.Known, s.Zones, s.Draining, s.Since = c.version, update.Known || c.Source == nil, zones, draining, update.Since
		s.Sidecar = c.Source == nil
		s.SourceErr, s.PolicyErr, s.ApplyErr = update.Err, policyErr, err
		if update.Known {
			s.ExpectedErr = expectedErr
		}
		if err == nil {
			s.Servers = servers
		}
		if applied {
			s.Applied++
			s.Last = now
		}
	})
	return err
}

func (c *Controller) apply(ctx context.Context, settings frontproxy.Settings, inService []endpoints.Pod, expected int, draining bool, now time.Time) (bool, []ServerStatus, error) {
	proxy := c.Proxy
	proxy.Settings, proxy.Draining = settings, draining
	proxy.Global.Version = c.version
	pods := make([]frontproxy.Pod, len(inService))
	byAddr := make(map[netip.AddrPort]endpoints.Pod, len(inService))
	for i, p := range inService {
		pods[i] = frontproxy.Pod{Addr: p.Addr, Name: p.Name, Zone: p.Zone}
		byAddr[p.Addr] = p
	}
	config, slots, err := proxy.Config(pods, expected, c.slots)
	if err != nil {
		return false, nil, err
	}
	c.readTraffic(ctx, inService, now) // read the counters before the change, while each server still has its old pod
	applied, err := c.Dir.Apply(ctx, &config)
	if err != nil {
		return false, nil, err
	}
	c.slots = slots
	c.setBudget(config.Frontends[0].RetryBudget)
	return applied, serversOf(&config, byAddr), nil
}

// serversOf returns the servers of config whose address is that of a pod in pods. It leaves out the
// empty slots: server lines without a pod.
func serversOf(config *haproxycfg.Config, pods map[netip.AddrPort]endpoints.Pod) (servers []ServerStatus) {
	for _, b := range config.Backends {
		for _, s := range b.Servers {
			if p, ok := pods[s.Addr]; ok && !s.Disabled {
				servers = append(servers, ServerStatus{Backend: b.Name, Server: s.Name(), Pod: p.Name, Zone: p.Zone, Node: p.Node})
			}
		}
	}
	return servers
}

// zones returns, for each zone, how many of the pods are in service, how many are not, and how many
// are expected.
func (c *Controller) zones(now time.Time, pods, inService []endpoints.Pod) map[string]ZoneStatus {
	zones := map[string]ZoneStatus{}
	for zone, expected := range c.expected.Zones(now) {
		zones[zone] = ZoneStatus{Expected: expected}
	}
	for _, p := range pods {
		z := zones[p.Zone]
		z.Other++
		zones[p.Zone] = z
	}
	for _, p := range inService {
		z := zones[p.Zone]
		z.Other--
		z.InService++
		if p.Terminating {
			z.Terminating++
		}
		zones[p.Zone] = z
	}
	return zones
}

func (c *Controller) file() string { return filepath.Join(c.Dir.Path, "haproxy.cfg") }

func (c *Controller) hasFiles() bool {
	_, err := os.Lstat(c.file())
	return err == nil
}

// readSlots reads from haproxy.cfg in the directory which pod is in which slot, so that pods keep
// their slots after a restart of this process. A slot is a server line for a pod; see
// frontproxy.Slots.
func (c *Controller) readSlots() frontproxy.Slots {
	text, err := inputfile.Read(c.file(), maxConfig)
	if err != nil {
		return nil
	}
	return parseSlots(text)
}

// maxConfig is the largest size of haproxy.cfg in bytes that readSlots reads.
const maxConfig = 256 << 20

var slotLine = regexp.MustCompile(`^ *server (s[0-9]+) ([^ ]+) (.*)$`)

// parseSlots reads from config, a haproxy.cfg of frontproxy.Proxy, which pod is in which slot. A
// slot is a server line for a pod. parseSlots returns the address of the pod in each slot, and the
// zero address for an empty slot.
func parseSlots(config []byte) frontproxy.Slots {
	slots := frontproxy.Slots{}
	backend := ""
	for line := range bytes.Lines(config) {
		line = bytes.TrimRight(line, "\n")
		if name, ok := bytes.CutPrefix(line, []byte("backend ")); ok {
			backend = string(name)
		}
		m := slotLine.FindSubmatch(line)
		if m == nil {
			continue
		}
		key := backend + "/" + string(m[1])
		slots[key] = netip.AddrPort{}
		if addr, err := netip.ParseAddrPort(string(m[2])); err == nil && !bytes.HasSuffix(m[3], []byte("disabled")) {
			slots[key] = addr
		}
	}
	return slots
}

// readVersion reads the version of HAProxy, unless the last successful read was less than 30 s ago.
// If the read fails, the last known version stays.
func (c *Controller) readVersion(ctx context.Context) {
	if c.Version == nil || time.Since(c.checked) < recheckInterval {
		return
	}
	if v, err := c.Version(ctx); err == nil {
		c.version, c.checked = v, time.Now()
	}
}

// Traffic returns the traffic of each pod, from HAProxy's current counters. If HAProxy does not
// answer, Traffic returns the last numbers and the error.
func (c *Controller) Traffic(ctx context.Context) ([]PodTraffic, error) {
	c.mu.Lock()
	pods := c.update.Pods
	c.mu.Unlock()
	err := c.readTraffic(ctx, pods, time.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.traffic.Pods(), err
}

// Open returns the numbers of open client connections, and of requests without a complete answer.
func (c *Controller) Open(ctx context.Context) (connections, requests int, err error) {
	rows, err := c.proxyStats(ctx)
	for _, row := range rows {
		switch {
		case row.Server == "FRONTEND" && row.Proxy == c.Proxy.Service:
			connections = int(row.Sessions)
		case row.Server == "BACKEND":
			requests += int(row.Sessions)
		}
	}
	return connections, requests, err
}

func (c *Controller) readTraffic(ctx context.Context, pods []endpoints.Pod, now time.Time) error {
	c.reading.Lock()
	defer c.reading.Unlock()
	rows, err := c.stats(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range pods {
		c.traffic.Name(p.Addr, p.Name, p.Zone, now)
	}
	if err == nil {
		c.traffic.Update(rows, now)
	}
	return err
}

// stats returns the counters of the worker that serves new connections, and not those of old
// workers.
func (c *Controller) stats(ctx context.Context) ([]runtimeapi.Stat, error) {
	worker, err := c.Dir.Runtime.Worker(ctx)
	if err != nil {
		return nil, err
	}
	return worker.Stats(ctx)
}

// proxyStats returns the rows of "show stat" for frontends and backends, without the rows of
// servers.
func (c *Controller) proxyStats(ctx context.Context) ([]runtimeapi.Stat, error) {
	worker, err := c.Dir.Runtime.Worker(ctx)
	if err != nil {
		return nil, err
	}
	return worker.ProxyStats(ctx)
}
