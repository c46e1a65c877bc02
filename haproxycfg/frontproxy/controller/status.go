package controller

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/headgate/headgate/haproxycfg"
)

// Status is the state of a Controller. Do not change its slices and maps.
type Status struct {
	// Version is the version of HAProxy for which the Controller makes the configuration.
	Version haproxycfg.Version
	// Known means that the source has answered at least once, or that the Controller has no source.
	Known bool
	// Zones contains the numbers of pods of each zone that has pods or expects pods.
	Zones map[string]ZoneStatus
	// Servers are the servers in the configuration that have a pod.
	Servers []ServerStatus
	// Applied is the number of changes that the Controller has put into force so far. Last is the
	// time of the last change, or zero before the first change.
	Applied int
	Last    time.Time
	// Sidecar is true if the controller has no source of pods, because all requests go to one
	// program on the same machine; see frontproxy.Proxy.LocalPort.
	Sidecar bool
	// Draining is true while HAProxy drains.
	Draining bool
	// SourceErr says why the pods may be out of date, PolicyErr why the policy file is not in
	// force, and ApplyErr why the last change is not in force. nil means no fault.
	SourceErr, PolicyErr, ApplyErr error
	// ExpectedErr says why the controller could not read or save the expected numbers of pods; nil
	// means no fault. If there is a fault and the controller restarts, the expected numbers begin with
	// the pods in service at the restart.
	ExpectedErr error
	// Since is Update.Since.
	Since time.Time
}

// ZoneStatus contains the numbers of pods of a zone.
type ZoneStatus struct {
	InService   int // the pods that get requests; see endpoints.InService
	Other       int // known, but not in service
	Expected    int // see Expected
	Terminating int // the pods in service that terminate: 0 while any zone has a ready pod
}

// ServerStatus is a server line of HAProxy and the pod whose address the server has.
type ServerStatus struct {
	Backend, Server string
	Pod, Zone, Node string // "" if unknown
}

// Ready returns nil if HAProxy has a configuration with pods. Otherwise it returns the reason. A
// proxy without a source needs no pods.
func (s Status) Ready() error {
	switch {
	case s.Applied == 0 && s.ApplyErr != nil:
		return s.ApplyErr
	case !s.Known:
		return errors.Join(errors.New("the source has not sent the pods yet"), s.SourceErr)
	case len(s.Servers) == 0 && !s.Sidecar:
		return errors.New("the service has no pods that are ready, and none that serve while they terminate")
	}
	return nil
}

// Terminating returns the number of terminating pods that get requests. It is 0 while the service
// has a ready pod; see endpoints.InService.
func (s Status) Terminating() int {
	n := 0
	for _, z := range s.Zones {
		n += z.Terminating
	}
	return n
}

// Problems returns a line for each error in the status, and a line if only terminating pods get the
// requests. HAProxy may still serve requests.
func (s Status) Problems() (lines []string) {
	for _, p := range []struct {
		what string
		err  error
	}{{"policy", s.PolicyErr}, {"source of the pods", s.SourceErr}, {"change of HAProxy", s.ApplyErr}, {"expected pods", s.ExpectedErr}} {
		if p.err != nil {
			lines = append(lines, p.what+": "+p.err.Error())
		}
	}
	if s.Terminating() > 0 {
		lines = append(lines, "pods: no pod of the service is ready, so its terminating pods get the requests")
	}
	return lines
}

func (s Status) equal(o Status) bool {
	return s.Version == o.Version && s.Known == o.Known && maps.Equal(s.Zones, o.Zones) && slices.Equal(s.Servers, o.Servers) &&
		s.Applied == o.Applied && s.Draining == o.Draining && s.Since.Equal(o.Since) &&
		text(s.SourceErr) == text(o.SourceErr) && text(s.PolicyErr) == text(o.PolicyErr) && text(s.ApplyErr) == text(o.ApplyErr) && text(s.ExpectedErr) == text(o.ExpectedErr)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
