package controller

import "time"

// retryBudget decides whether HAProxy may repeat requests. HAProxy before 2.9 needs a retryBudget,
// because these versions cannot count repetitions. Each request allows percent/100 repetitions, and
// each second allows perSecond further repetitions. Unused repetitions expire after a second. If
// HAProxy exceeds the budget, retryBudget subtracts the excess from the next budgets, at most the
// budget of 10 s.
type retryBudget struct {
	percent, perSecond int

	last   sample
	credit float64 // the number of repetitions that are allowed; below 0 after too many repetitions
}

// sample contains the counters of HAProxy at one time.
type sample struct {
	at                time.Time
	requests, retries uint64
}

// budgetPoll is the time between two samples. fastBudgetPoll is the time between two samples while
// HAProxy repeats requests. Between two samples HAProxy can exceed the budget. The next samples
// then allow fewer repetitions.
const (
	budgetPoll     = 50 * time.Millisecond
	fastBudgetPoll = 10 * time.Millisecond
)

// allows adds a sample, and returns whether HAProxy may repeat requests until the next sample.
// After a restart or reload, the counters of HAProxy begin at 0. So if a counter is smaller than in
// the last sample, allows begins a new budget.
func (b *retryBudget) allows(s sample) bool {
	last := b.last
	b.last = s
	if last.at.IsZero() || s.requests < last.requests || s.retries < last.retries {
		b.credit = float64(b.perSecond)
		return b.credit > 0
	}
	seconds := s.at.Sub(last.at).Seconds()
	earned := float64(s.requests-last.requests)*float64(b.percent)/100 + float64(b.perSecond)*seconds
	b.credit += earned - float64(s.retries-last.retries)
	if seconds > 0 {
		perSecond := max(earned/seconds, float64(b.perSecond))
		b.credit = max(min(b.credit, perSecond), -10*perSecond)
	}
	return b.credit > 0
}
