package controller

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/headgate/headgate/haproxycfg/deploy"
)

// OldWorkers lists and ends the old workers of HAProxy. deploy.Workers is an OldWorkers.
type OldWorkers interface {
	// Old returns the process IDs of the old workers, the oldest worker first.
	Old(context.Context) ([]int, error)
	// EndOldest ends the oldest worker, although it still has connections.
	EndOldest(context.Context) (deploy.EndedWorker, error)
}

// Waiting says why HAProxy does not run a change yet, although the change was not refused: its
// reload has to wait. It is the error of an Attempt whose Outcome is Waits.
type Waiting struct {
	// Since is the time at which the change began to wait. Until is the time at which the wait
	// ends at the latest.
	Since, Until time.Time
	// OldWorkers is the number of old workers, if the change waits until one of them ends. It is 0
	// if the change waits because HAProxy has reloaded often.
	OldWorkers int
}

// Error implements error.
func (w *Waiting) Error() string {
	until := w.Until.UTC().Format(time.RFC3339)
	if w.OldWorkers > 0 {
		return fmt.Sprintf("the reload waits for the end of one of %d old workers, until %s at most", w.OldWorkers, until)
	}
	return "the reload waits until " + until + ", because HAProxy has reloaded often"
}

// ReloadCounts contains numbers about HAProxy's old workers.
type ReloadCounts struct {
	// OldWorkers is the number of old workers after the last attempt to apply a configuration. It
	// is 0 without Controller.OldWorkers.
	OldWorkers int
	// WorkersEnded is the number of old workers that the Controller has ended since its start.
	// StreamsCut is the number of streams that these workers still had.
	WorkersEnded, StreamsCut int
}

// reloads decides when a change may reload HAProxy. It bounds the rate of reloads and the number of
// old workers. Only one goroutine may use it.
type reloads struct {
	pace    pace
	workers OldWorkers // nil: their number has no bound
	limit   int        // largest number of old workers; negative means no bound
	maxWait time.Duration
	keep    bool // end no worker
	log     *slog.Logger
	changed func(ReloadCounts)

	since  time.Time // when a change began to wait for the end of a worker; zero if none waits
	paced  time.Time // when a change began to wait for pace; zero if none waits
	counts ReloadCounts
}

func (c *Controller) newReloads(log *slog.Logger) reloads {
	return reloads{
		pace:    pace{least: c.minInterval(), most: cmp.Or(c.MaxInterval, 30*time.Second)},
		workers: c.OldWorkers, limit: cmp.Or(c.MaxOldWorkers, 16), maxWait: cmp.Or(c.MaxReloadWait, 10*time.Minute), keep: c.KeepWorkers,
		log: log, changed: c.status.setReloads,
	}
}

// admit decides whether an attempt to apply a change may reload HAProxy at the time "now": it
// returns nil, or the reason why the reload has to wait. If a reload has waited for old workers as
// long as maxWait, admit ends the oldest workers and returns nil. If the field "keep" is true, it
// returns nil and ends no worker.
func (r *reloads) admit(ctx context.Context, now time.Time) *Waiting {
	if until := r.pace.next(); until.After(now) {
		if r.paced.IsZero() {
			r.paced = now
			r.log.Info("the reload waits, because HAProxy has reloaded often", "until", until.UTC())
		}
		return &Waiting{Since: r.paced, Until: until}
	}
	r.paced = time.Time{}
	old := r.count(ctx)
	if r.limit < 0 || old < r.limit {
		r.since = time.Time{}
		return nil
	}
	if r.since.IsZero() {
		r.since = now
		if r.maxWait > 0 {
			r.log.Warn("the reload waits for old workers", "old", old, "limit", r.limit, "longest", r.maxWait)
		}
	}
	if until := r.since.Add(max(0, r.maxWait)); until.After(now) {
		return &Waiting{Since: r.since, Until: until, OldWorkers: old}
	}
	for ; !r.keep && old >= r.limit && old > 0; old-- {
		ended, err := r.workers.EndOldest(ctx)
		if err != nil {
			// Reload nevertheless. Otherwise one worker that cannot be ended would block all
			// changes.
			r.log.Error("no old worker can be ended, so HAProxy has more of them than the limit", "old", old, "limit", r.limit, "err", err)
			break
		}
		r.counts.WorkersEnded++
		r.counts.StreamsCut += max(0, ended.Streams)
		r.log.Warn("ended the oldest worker", "pid", ended.PID, "streams cut", ended.Streams, "old", old-1, "limit", r.limit, "waited", now.Sub(r.since).Round(time.Millisecond))
	}
	r.since = time.Time{}
	r.count(ctx)
	return nil
}

// count asks HAProxy for the number of old workers, stores the number and returns it. If HAProxy
// does not answer, count returns the stored number. It reports no error in this case, because the
// next reload fails for the same reason and reports it.
func (r *reloads) count(ctx context.Context) int {
	if r.workers == nil {
		return 0
	}
	if old, err := r.workers.Old(ctx); err == nil {
		r.counts.OldWorkers = len(old)
	}
	r.changed(r.counts)
	return r.counts.OldWorkers
}

// reloaded records that an attempt to apply a configuration has reloaded HAProxy: it starts the
// pause before the next reload, and counts the old workers again. It is called at the end of the
// attempt.
func (r *reloads) reloaded(ctx context.Context, now time.Time) {
	r.pace.reloaded(now)
	r.count(ctx)
}

// pace limits the rate of reloads by a pause after each reload. The first pause is the field
// "least". Each further pause is four times as long, up to the field "most". If HAProxy is not
// reloaded for the time "most" after a pause, the next pause is "least" again. So 100 changes in a
// minute cause five reloads. pace does not read the clock: callers pass the time.
type pace struct {
	least, most time.Duration // if most <= least, every pause is as long as least

	last  time.Time     // end of the last reload
	pause time.Duration // the length of the pause after the last reload
}

// next returns the earliest time at which HAProxy may be reloaded again.
func (p *pace) next() time.Time { return p.last.Add(p.pause) }

func (p *pace) reloaded(now time.Time) {
	if quiet := now.Sub(p.next()); p.pause == 0 || quiet >= max(p.least, p.most) {
		p.pause = p.least
	} else {
		p.pause = max(p.least, min(4*p.pause, p.most))
	}
	p.last = now
}

// pollInterval returns the pause between two attempts while a change waits for the end of an old
// worker. The pause is ten times "took", the duration of the last attempt, but at least 1 s and at
// most 30 s. So attempts that last at most 3 s use at most a tenth of a processor.
func pollInterval(took time.Duration) time.Duration {
	return min(max(time.Second, 10*took), 30*time.Second)
}
