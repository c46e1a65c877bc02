package controller

import (
	"maps"
	"time"

	"github.com/headgate/headgate/nodeselect/endpoints"
)

// Window is how long Expected remembers the number of pods of a zone.
const Window = 10 * time.Minute

// Expected computes how many pods each zone should have: the largest number of pods that were in
// service at the same time within the last Window. EndpointSlices do not show whether a pod has
// failed or somebody has scaled the service down. So in both cases the number falls when Window has
// passed.
//
// A [Controller] saves the numbers in the file expected-pods.json beside haproxy.cfg at each change
// and every minute.
//
// The zero value remembers nothing. Expected uses no clock: the caller passes the time, which must
// not go back.
type Expected struct {
	zones map[string]*history
}

// Update records that exactly the pods in inService are in service. The argument "now" is the
// present time.
func (e *Expected) Update(now time.Time, inService []endpoints.Pod) {
	if e.zones == nil {
		e.zones = map[string]*history{}
	}
	counts := map[string]int{}
	for _, p := range inService {
		counts[p.Zone]++
	}
	for zone := range counts {
		if e.zones[zone] == nil {
			e.zones[zone] = &history{}
		}
	}
	for zone, h := range e.zones {
		h.update(now, counts[zone])
	}
	e.forget(now)
}

// Zones returns the expected number of pods of each zone. It leaves out zones that had no pod
// within the last Window.
func (e *Expected) Zones(now time.Time) map[string]int {
	e.forget(now)
	zones := make(map[string]int, len(e.zones))
	for zone, h := range e.zones {
		zones[zone] = h.max()
	}
	return zones
}

// Next returns the time at which the expected number of a zone falls next, because Window has
// passed since the zone last had that many pods. If no number will fall, the result is the zero
// time. The result is valid until the next Update.
func (e *Expected) Next() (next time.Time) {
	for _, h := range e.zones {
		if len(h.past) > 0 {
			if end := h.past[0].until.Add(Window); next.IsZero() || end.Before(next) {
				next = end
			}
		}
	}
	return next
}

// expectedIn returns the expected number of local pods for a front proxy of a zone. With the zone
// "", all pods are local. If the other zones have lost pods, they have no room for further
// requests, so expectedIn reduces the number in the same proportion. For example, if the other
// zones have half of their expected pods, it returns half of the zone's expected number. So if all
// zones are scaled down alike, no request leaves its zone.
func expectedIn(zones map[string]ZoneStatus, zone string) int {
	own, otherExpected, otherInService := 0, 0, 0
	for name, z := range zones {
		if name == zone || zone == "" {
			own += z.Expected
		} else {
			otherExpected += z.Expected
			otherInService += min(z.InService, z.Expected)
		}
	}
	if otherExpected == 0 {
		return own
	}
	return (own*otherInService + otherExpected - 1) / otherExpected
}

func (e *Expected) forget(now time.Time) {
	for _, h := range e.zones {
		h.forget(now.Add(-Window))
	}
	maps.DeleteFunc(e.zones, func(_ string, h *history) bool { return h.max() == 0 })
}

// history remembers how many pods one zone has had. The field "present" is the present number. The
// field "past" contains each earlier number that was greater than all numbers after it, the
// greatest first.
type history struct {
	present int
	past    []pastCount
}

type pastCount struct {
	count int
	until time.Time // the time at which the number fell
}

func (h *history) update(now time.Time, count int) {
	if count < h.present {
		h.past = append(h.past, pastCount{h.present, now})
	}
	h.present = count
	for len(h.past) > 0 && h.past[len(h.past)-1].count <= count {
		h.past = h.past[:len(h.past)-1]
	}
}

// forget removes from h.past the numbers that the zone last had at the time "oldest" or earlier.
func (h *history) forget(oldest time.Time) {
	for len(h.past) > 0 && !h.past[0].until.After(oldest) {
		h.past = h.past[1:]
	}
}

func (h *history) max() int {
	if len(h.past) > 0 {
		return h.past[0].count
	}
	return h.present
}
