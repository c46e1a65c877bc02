package haproxycfg

import "strconv"

// RetryBudget limits how often HAProxy repeats failed requests, so that repetitions do not overload
// the remaining servers. It does not count repetitions after [RetryConnFailure], because the server
// has received nothing. The largest number of repetitions in one second is
//
//	requests × Percent / 100 + PerSecond
//
// where requests is the number of requests of the frontend in this second.
//
// HAProxy 2.9 and later count the repetitions. For earlier versions, a controller reads req_tot and
// wretr of "show stat", and sets the variable Switch to 0 while there are too many repetitions, and
// to 1 otherwise.
type RetryBudget struct {
	Percent   int // 0 to 100
	PerSecond int // 0 to 1,000,000
	// Switch is the name of a Variable; empty means none. HAProxy repeats no request while its
	// value is 0. HAProxy before 2.9 needs a Switch; later versions obey it too.
	Switch string
}

// nativeRetryBudget reports whether HAProxy counts repetitions itself: "txn.conn_retries" is new in
// 2.9.
func (v Version) nativeRetryBudget() bool { return v.AtLeast(2, 9) }

// retryTable is the name of the table in which HAProxy counts the requests and repetitions of a
// frontend.
func (f *Frontend) retryTable() string { return f.Name + ":retries" }

// append renders the rules of the frontend f. For HAProxy 2.9 and later, these rules count the
// requests and the repetitions of f in its table, and end the repetitions when the budget is used
// up. The rule that counts repetitions is a rule of http-after-response, because HAProxy applies
// such rules to all answers, also to those that it makes itself.
func (r *RetryBudget) append(t *text, f *Frontend, version Version) {
	if r.Switch != "" {
		t.line("http-request disable-l7-retry if { var(proc." + r.Switch + ") -m int eq 0 }")
	}
	if !version.nativeRetryBudget() {
		return
	}
	t.line("http-request track-sc2 int(0) table " + f.retryTable())
	t.line("http-request set-var(txn.retry_budget) sc_http_req_rate(2),mul(" + strconv.Itoa(r.Percent) + "),div(100),add(" + strconv.Itoa(r.PerSecond) + ")")
	t.line("http-request disable-l7-retry if { sc_gpc_rate(0,2),sub(txn.retry_budget) ge 0 }")
	t.line("http-after-response sc-add-gpc(0,2) txn.conn_retries")
}

func (r *RetryBudget) appendTable(t *text, f *Frontend) {
	t.section("backend", f.retryTable())
	t.line("stick-table type integer size 1 expire 10s store http_req_rate(1s),gpc(1),gpc_rate(1,1s)")
}

func (v *validator) retryBudget(g *Global, f *Frontend) {
	r := f.RetryBudget
	v.number("RetryBudget.Percent", r.Percent, 0, 100)
	v.number("RetryBudget.PerSecond", r.PerSecond, 0, 1_000_000)
	switch {
	case r.Switch != "":
		v.variable(g, "RetryBudget.Switch", r.Switch)
	case !g.Version.nativeRetryBudget():
		v.addf("RetryBudget needs a Switch, because HAProxy %v does not count repeated requests", g.Version)
	}
	if !g.Version.nativeRetryBudget() {
		return
	}
	if g.Observe {
		v.addf("RetryBudget needs the counter that Global.Observe uses")
	}
	v.name("table of RetryBudget", f.retryTable())
	if _, ok := v.backends[f.retryTable()]; ok {
		v.addf("RetryBudget needs a table with the name %s, which a backend has", f.retryTable())
	}
}
