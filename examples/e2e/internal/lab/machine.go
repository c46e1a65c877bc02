//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is a network namespace with an address in [Network], connected to the bridge. `ip netns
// exec NAME` enters it. Goroutines may call its methods concurrently.
type Machine struct {
	Name string
	Addr netip.Addr

	lab *Lab
	ns  *os.File
	// eth0 of the machine is one end of a veth pair. The field "link" is the name of the other end.
	// The field "outside" is the network namespace of the other end: a node, or "" for the lab.
	link, outside string
}

// Machine returns the machine called name, which belongs to no cluster. It creates the machine if
// it is missing.
func (l *Lab) Machine(name string) (*Machine, error) {
	l.mu.Lock()
	if m, ok := l.machines[name]; ok {
		l.mu.Unlock()
		return m, nil
	}
	addr, err := MachineAddr(l.others)
	l.others++
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return l.machine(name, addr)
}

// machine creates a machine on the bridge.
func (l *Lab) machine(name string, addr netip.Addr) (*Machine, error) {
	m, err := l.namespace(name, addr)
	if err != nil {
		return nil, err
	}
	if err := ipBatch("",
		fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %s", m.link, linkAddr(addr), name),
		fmt.Sprintf("link set %s master lab0 up", m.link),
	); err != nil {
		return nil, err
	}
	return m, ipBatch(name,
		"link set lo up",
		fmt.Sprintf("addr add %s/%d dev eth0", addr, Network.Bits()),
		"link set eth0 up",
	)
}

// linkAddr derives the Ethernet address of a machine from its IP address. Neighbours cache the
// Ethernet address of an IP address for most of a minute. If a new machine gets the IP address of a
// removed machine, the new machine gets the Ethernet address of the removed machine too, so the
// caches are right.
func linkAddr(addr netip.Addr) net.HardwareAddr {
	return append(net.HardwareAddr{0x02, 0}, addr.AsSlice()...)
}

// namespace creates a network namespace without any link.
func (l *Lab) namespace(name string, addr netip.Addr) (*Machine, error) {
	m := &Machine{Name: name, Addr: addr, lab: l, link: fmt.Sprintf("veth%d", l.links.Add(1))}
	l.mu.Lock()
	_, taken := l.machines[name]
	if !taken {
		l.machines[name] = m
	}
	l.mu.Unlock()
	if taken {
		return nil, fmt.Errorf("lab: a machine %q exists", name)
	}
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("lab: ip netns add %s: %w: %s", name, err, out)
	}
	ns, err := os.Open("/run/netns/" + name)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	m.ns = ns
	return m, nil
}

// remove kills the processes of the machine and deletes the machine.
func (m *Machine) remove() error {
	m.lab.mu.Lock()
	delete(m.lab.machines, m.Name)
	m.lab.mu.Unlock()
	m.killAll()
	_ = m.ns.Close()
	// The kernel deletes eth0 together with the namespace. With eth0, it also deletes the other end
	// of the veth pair. So the lab need not delete them.
	if out, err := exec.Command("ip", "netns", "del", m.Name).CombinedOutput(); err != nil {
		return fmt.Errorf("lab: ip netns del %s: %w: %s", m.Name, err, out)
	}
	return nil
}

// Processes returns the processes that were started on the machine.
func (m *Machine) Processes() []*Process {
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	var on []*Process
	for _, p := range m.lab.processes {
		if p.Machine == m {
			on = append(on, p)
		}
	}
	return on
}

func (m *Machine) killAll() {
	for _, p := range m.Processes() {
		p.Kill()
	}
}

// Unplug disconnects the machine from the network: packets to the machine then have no answer. This
// differs from the end of a process: a machine whose process has ended refuses connections.
func (m *Machine) Unplug() error { return ipBatch(m.outside, "link set "+m.link+" down") }

// Plug reverts Unplug.
func (m *Machine) Plug() error { return ipBatch(m.outside, "link set "+m.link+" up") }

// Do calls the function f on a thread in the network namespace of the machine. Sockets and
// processes belong to the machine if f creates them on this thread, and not in another goroutine.
func (m *Machine) Do(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- m.enter(f) }()
	return <-done
}

func (m *Machine) enter(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("lab: %w", err)
	}
	defer home.Close()
	if err := unix.Setns(int(m.ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("lab: enter %s: %w", m.Name, err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread is still in the network namespace of the machine, so no other goroutine may
		// use it. Do not unlock this goroutine from the thread: when the goroutine ends, the Go
		// runtime ends the thread too.
		return errors.Join(err, fmt.Errorf("lab: leave %s: %w", m.Name, back))
	}
	runtime.UnlockOSThread()
	return err
}

// DialContext dials from the machine. address must be an IP address and a port.
func (m *Machine) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		// DialContext does not accept a host name. Package net would resolve it in goroutines on
		// other threads, that is, outside the network namespace of the machine.
		return nil, fmt.Errorf("lab: dial from %s: %w", m.Name, err)
	}
	err = m.Do(func() error {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen opens a listener on the machine.
func (m *Machine) Listen(network, address string) (l net.Listener, err error) {
	err = m.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// Client returns an HTTP client that opens a new connection from the machine for each request.
func (m *Machine) Client() *http.Client {
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{DialContext: m.DialContext, DisableKeepAlives: true},
	}
}
