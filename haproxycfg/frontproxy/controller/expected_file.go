package controller

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/internal/inputfile"
)

const (
	expectedFile = "expected-pods.json" // a file in the directory of the configuration
	// saveInterval is the longest time between two writes of expected-pods.json. If somebody kills the
	// process, the file may lack the changes of the last saveInterval.
	saveInterval = time.Minute

	maxExpectedFile = 1 << 20 // bytes
	maxZones        = 1000
	maxCounts       = 10_000 // the largest number of counts of one zone
	maxZonePods     = 1_000_000
)

// savedCount is a number of pods in expected-pods.json, and the time until which a zone had this
// number.
type savedCount struct {
	Pods  int       `json:"pods"`
	Until time.Time `json:"until"`
}

// encode returns the content of expected-pods.json, for example
//
//	{"eu-1a":[{"pods":12,"until":"2026-01-02T10:30:00Z"},{"pods":9,"until":"2026-01-02T10:34:00Z"}]}
//
// if the zone eu-1a had 12 pods until 10:30, and has 9 pods now, at 10:34. The file contains the
// numbers of the last Window, the largest one first.
func (e *Expected) encode(now time.Time) []byte {
	e.forget(now)
	zones := map[string][]savedCount{}
	for zone, h := range e.zones {
		for _, p := range h.past {
			zones[zone] = append(zones[zone], savedCount{p.count, p.until.UTC().Round(0)})
		}
		if h.present > 0 {
			zones[zone] = append(zones[zone], savedCount{h.present, now.UTC().Round(0)})
		}
	}
	data, _ := json.Marshal(zones) // numbers, texts and times
	return append(data, '\n')
}

// decodeExpected parses data, the content of expected-pods.json, and returns the numbers of pods by
// zone. Each number has the time "until" at which the zone last had so many pods. decodeExpected
// leaves out numbers older than Window. A time in the future becomes the present time: somebody has
// set the clock back. After a fault, decodeExpected returns an error and no numbers.
func decodeExpected(data []byte, now time.Time) (Expected, error) {
	var zones map[string][]savedCount
	if err := json.Unmarshal(data, &zones); err != nil {
		return Expected{}, err
	}
	if len(zones) > maxZones {
		return Expected{}, fmt.Errorf("%d zones, at most %d are allowed", len(zones), maxZones)
	}
	e := Expected{zones: map[string]*history{}}
	for zone, counts := range zones {
		if len(counts) > maxCounts {
			return Expected{}, fmt.Errorf("zone %.100q: %d numbers, at most %d are allowed", zone, len(counts), maxCounts)
		}
		h := &history{}
		for i, c := range counts {
			switch {
			case c.Pods < 1 || c.Pods > maxZonePods:
				return Expected{}, fmt.Errorf("zone %.100q: %d pods", zone, c.Pods)
			case i > 0 && (c.Pods >= counts[i-1].Pods || c.Until.Before(counts[i-1].Until)):
				return Expected{}, fmt.Errorf("zone %.100q: the numbers do not fall with the time", zone)
			}
			until := c.Until
			if until.After(now) {
				until = now
			}
			h.past = append(h.past, pastCount{c.Pods, until})
		}
		e.zones[zone] = h
	}
	e.forget(now)
	return e, nil
}

// present returns the number of pods in service by zone. It leaves out zones without such a pod.
func (e *Expected) present() map[string]int {
	counts := map[string]int{}
	for zone, h := range e.zones {
		if h.present > 0 {
			counts[zone] = h.present
		}
	}
	return counts
}

// readExpected reads the expected numbers of pods that an earlier process has saved. So if the
// process restarts while pods are missing, it still expects these pods. If the file is missing or
// faulty, the expected numbers begin with the pods that the source reports first.
func (c *Controller) readExpected(now time.Time) error {
	file := filepath.Join(c.Dir.Path, expectedFile)
	data, err := inputfile.ReadOptional(file, maxExpectedFile)
	if data == nil || err != nil {
		return err
	}
	e, err := decodeExpected(data, now)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	c.expected = e
	return nil
}

// saveExpected writes the expected numbers of pods to the directory, if the number of pods of a
// zone has changed, or if the last write was saveInterval ago.
func (c *Controller) saveExpected(now time.Time) error {
	counts := c.expected.present()
	if maps.Equal(counts, c.saved) && now.Sub(c.savedAt) < saveInterval {
		return nil
	}
	err := atomicfile.Write(filepath.Join(c.Dir.Path, expectedFile), c.expected.encode(now), 0o644, nil)
	if err == nil {
		c.saved, c.savedAt = counts, now
	}
	return err
}
