package haproxycfg

import (
	"cmp"
	"strconv"
)

// Zones divides the requests of a frontend between the servers of its own zone, which
// Frontend.DefaultBackend contains, and the servers of all other zones.
//
// HAProxy chooses the backend of each request by the first rule that applies:
//
//  1. Panic, if fewer than PanicBelow servers are up in the own zone and in Other together;
//  2. Other, for the share of requests that exceeds the capacity of the own zone, see below;
//  3. Other, if SpillOnQueue is true, requests wait for servers of the own zone, and no request
//     waits for servers of Other;
//  4. DefaultBackend.
//
// HAProxy sends this percentage of the requests to the own zone, or 100 if the result is higher:
//
//	servers that are up × Overprovision / expected servers
//
// For example, with 12 expected servers and an Overprovision of 140, the own zone gets all requests
// while 9 or more of its servers are up. If 6 are up, it gets 70%.
//
// HAProxy uses Other and Panic only if they have a server that is up.
type Zones struct {
	// Other is the name of the backend with the servers of all zones except the own zone.
	Other string
	// Overprovision is the load that one server can bear, in percent of the load that it has when
	// all expected servers are up. Values are 100 to 1,000; 0 means 140.
	Overprovision int
	// Expected names a variable. Its value is the number of servers of the own zone when no server
	// is missing. If the value is 0, all requests stay in the own zone.
	Expected string
	// Panic is the name of a backend that HAProxy uses when fewer than PanicBelow servers are up.
	// HAProxy does not check the servers of this backend, so all of them count as up. Empty means
	// that there is no such backend.
	Panic string
	// PanicBelow names a variable: if fewer servers are up than its value, HAProxy uses Panic. Set
	// PanicBelow if and only if Panic is set.
	PanicBelow string
	// SpillOnQueue sends requests to Other while requests wait in the queue of DefaultBackend. HAProxy
	// queues requests only if ServerOptions.MaxConn is not 0.
	SpillOnQueue bool
}

// defaultOverprovision is the overprovisioning factor of Envoy.
const defaultOverprovision = 140

// appendRules renders the rules "http-request", which must precede all rules "use_backend"; "own"
// is the name of the backend of the own zone.
//
// The first rules store the numbers of servers that are up in variables, so that all later rules
// use the same numbers. The share of the own zone is in thousandths, because HAProxy divides only
// whole numbers.
func (z *Zones) appendRules(t *text, own string) {
	t.line("http-request set-var(txn.own_up) nbsrv(" + own + ")")
	t.line("http-request set-var(txn.other_up) nbsrv(" + z.Other + ")")
	t.line("http-request set-var(txn.own_share) var(txn.own_up),mul(" +
		strconv.Itoa(10*cmp.Or(z.Overprovision, defaultOverprovision)) + "),div(proc." + z.Expected + ")")
	t.line("http-request set-var(txn.zone_draw) rand(1000)")
}

func (z *Zones) appendBackends(t *text, own string) {
	if z.Panic != "" {
		t.line("use_backend " + z.Panic + " if { var(txn.own_up),add(txn.other_up),sub(proc." + z.PanicBelow +
			") lt 0 } { nbsrv(" + z.Panic + ") gt 0 }")
	}
	// By default, HAProxy compares a variable as a string. "-m int" makes it compare numbers.
	otherUp := " { var(txn.other_up) -m int gt 0 }"
	t.line("use_backend " + z.Other + " if" + otherUp + " { var(txn.own_share),sub(txn.zone_draw) le 0 }")
	if z.SpillOnQueue {
		t.line("use_backend " + z.Other + " if" + otherUp + " { queue(" + own + ") gt 0 } { queue(" + z.Other + ") eq 0 }")
	}
}

func (v *validator) zones(g *Global, f *Frontend) {
	z := f.Zones
	if f.Router != nil {
		v.addf("it has both a Router and Zones")
	}
	if f.DefaultBackend == "" {
		v.addf("Zones need a default backend")
	}
	v.backendName("Zones.Other", z.Other)
	if z.Overprovision != 0 {
		v.number("Zones.Overprovision", z.Overprovision, 100, 1000)
	}
	v.variable(g, "Zones.Expected", z.Expected)
	if z.Panic == "" && z.PanicBelow == "" {
		return
	}
	v.backendName("Zones.Panic", z.Panic)
	v.variable(g, "Zones.PanicBelow", z.PanicBelow)
}

// backendName adds a fault if there is no backend with this name.
func (v *validator) backendName(what, name string) {
	if _, ok := v.backends[name]; !ok {
		v.addf("%s names backend %q, which does not exist", what, name)
	}
}
