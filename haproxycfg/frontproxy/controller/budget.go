package controller

import (
	"math"
	"time"
)

// retryBudget decides whether HAProxy before 2.9, which cannot count repetitions, may repeat
// requests. Each request allows percent/100 repetitions, and each second allows perSecond further
// repetitions. A repetition that HAProxy does not use expires after about a second. If HAProxy
// exceeds the budget, the excess reduces the next budgets, for at most 10 s.
type retryBudget struct {
	percent, perSecond int

	last     sample
	credit   float64   // the number of repetitions that are allowed; below 0 after too many repetitions
	exceeded time.Time // time of the first sample of an unbroken series in which credit is below 0
}

// sample contains HAProxy's numbers of requests and of repeated requests at one time.
type sample struct {
	at                time.Time
	requests, retries uint64
}

// budgetPoll is the time between two samples of HAProxy's counters while HAProxy repeats no
// requests. fastBudgetPoll is this time while HAProxy repeats requests. Between two samples,
// HAProxy can exceed the retry budget. The next samples then allow fewer repetitions.
const (
	budgetPoll     = 50 * time.Millisecond
	fastBudgetPoll = 10 * time.Millisecond
)

const (
	unusedTime = time.Second      // time after which an unused repetition counts 1/e
	excessTime = 10 * time.Second // time after which retryBudget forgives an excess
)

// The method "allows" adds a sample, and reports whether HAProxy may repeat requests until the next
// sample. After a restart or reload, the counters of HAProxy begin at 0. So if a counter is smaller
// than in the last sample, the method begins a new budget. If HAProxy has already repeated more
// requests than the field "percent" permits, the method subtracts the excess from the new budget.
func (b *retryBudget) allows(s sample) bool {
	last := b.last
	b.last = s
	if last.at.IsZero() || s.requests < last.requests || s.retries < last.retries {
		unused := float64(s.requests)*float64(b.percent)/100 - float64(s.retries)
		b.credit = float64(b.perSecond) + min(unused, 0)
	} else {
		passed := s.at.Sub(last.at)
		if b.credit > 0 {
			b.credit *= math.Exp(-float64(passed) / float64(unusedTime))
		}
		earned := float64(s.requests-last.requests)*float64(b.percent)/100 + float64(b.perSecond)*passed.Seconds()
		b.credit += earned - float64(s.retries-last.retries)
	}
	switch {
	case b.credit >= 0:
		b.exceeded = time.Time{}
	case b.exceeded.IsZero():
		b.exceeded = s.at
	case s.at.Sub(b.exceeded) >= excessTime:
		b.credit, b.exceeded = 0, time.Time{}
	}
	return b.credit > 0
}
