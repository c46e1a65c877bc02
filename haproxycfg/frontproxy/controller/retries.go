package controller

import (
	"context"
	"time"

	"github.com/headgate/headgate/haproxycfg"
	"github.com/headgate/headgate/haproxycfg/frontproxy"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
)

// setBudget stores the budget for switchRetries.
func (c *Controller) setBudget(budget *haproxycfg.RetryBudget) {
	if c.version.AtLeast(2, 9) {
		budget = nil // HAProxy itself counts repetitions
	}
	c.mu.Lock()
	c.budget = budget
	c.mu.Unlock()
}

// switchRetries runs until ctx ends. HAProxy before 2.9 cannot enforce the retry budget itself, so
// switchRetries counts the requests that HAProxy repeats. It forbids further repetitions while the
// budget is exceeded, and permits them afterwards.
func (c *Controller) switchRetries(ctx context.Context) error {
	var counter retryBudget
	on, set := true, false // set is true if the variable in HAProxy has the same value as the variable on
	tick := time.NewTicker(budgetPoll)
	defer tick.Stop()
	fast := false // fast is true while HAProxy repeats requests, or may begin to repeat them again
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		c.mu.Lock()
		budget := c.budget
		c.mu.Unlock()
		if budget == nil {
			counter, on, set = retryBudget{}, true, false
			continue
		}
		counter.percent, counter.perSecond = budget.Percent, budget.PerSecond
		rows, err := c.proxyStats(ctx)
		if err != nil {
			set = false // HAProxy may have restarted
			continue
		}
		now := sumRetries(rows, c.Proxy.Service)
		now.at = time.Now()
		repeats := now.retries > counter.last.retries
		if now.requests < counter.last.requests {
			set = false // after a reload the variable has the value in the configuration
		}
		allows := counter.allows(now)
		if next := allows && (repeats || !on); next != fast {
			fast = next
			if fast {
				tick.Reset(fastBudgetPoll)
			} else {
				tick.Reset(budgetPoll)
			}
		}
		if set && allows == on || !set && allows && on {
			continue
		}
		value := haproxycfg.Variable{Name: frontproxy.MayRetry}
		if allows {
			value.Value = 1
		}
		if c.Dir.Runtime.SetVariable(ctx, value.Name, value.Value) == nil {
			on, set = allows, true
		}
	}
}

// sumRetries returns two totals from rows of "show stat": the requests of the frontend, and the
// repeated requests of all backends.
func sumRetries(rows []runtimeapi.Stat, frontend string) (s sample) {
	for _, row := range rows {
		switch {
		case row.Server == "FRONTEND" && row.Proxy == frontend:
			s.requests = row.Requests
		case row.Server == "BACKEND":
			s.retries += row.Retries
		}
	}
	return s
}
