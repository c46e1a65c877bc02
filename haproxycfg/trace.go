package haproxycfg

import "strconv"

// Trace makes HAProxy pass on a valid header traceparent (W3C Trace Context), which tells a service
// to which trace the request belongs. If a request has no valid traceparent, HAProxy begins a new
// trace: it sets traceparent and removes tracestate. HAProxy sends no spans to a collector.
type Trace struct {
	// Sampled is the share of the new traces that HAProxy marks as sampled, so that the services
	// record them. The share is a number out of 10,000: 0 means no trace, and 10,000 means all.
	Sampled int
}

// The format of the header traceparent: version, trace ID, parent ID and flags. The version ff and
// IDs of zeros are invalid. Only versions above 00 may have further fields (W3C Trace Context,
// sections 3.2 and 4.3).
const (
	traceparent = "^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}" +
		"|(0[1-9a-f]|[1-9a-e][0-9a-f]|f[0-9a-e])-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?)$"
	traceparentZero = "^..-(0{32}-|.{32}-0{16}-)"
	traceparentNew  = "00-%[uuid(),regsub(-,,g)]-%[uuid(),regsub(-,,g),bytes(0,16)]-"
)

func (r *Trace) append(t *text) {
	t.line("http-request set-var(txn.trace) req.fhdr(traceparent) if { req.fhdr_cnt(traceparent) eq 1 }" +
		" { req.fhdr(traceparent) -m reg '" + traceparent + "' } !{ req.fhdr(traceparent) -m reg '" + traceparentZero + "' }")
	const isNew = "!{ var(txn.trace) -m found }"
	t.line("http-request del-header tracestate if " + isNew)
	t.line("http-request set-header traceparent " + traceparentNew + "00 if " + isNew)
	if r.Sampled > 0 {
		t.line("http-request set-header traceparent " + traceparentNew + "01 if " + isNew + " { rand(10000) lt " + strconv.Itoa(r.Sampled) + " }")
	}
}

// requestIDFormat is the format of the log line of a frontend with RequestID: the line of HAProxy's
// "option httplog", followed by the ID of the request and the address of the server.
const requestIDFormat = `'%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r ` +
	`id=%[var(txn.request_id)] server=%si:%sp'`

// appendRequestID renders the rules that keep the header X-Request-ID of a request, or set it to a
// UUID. HAProxy keeps only an ID of safe characters, because other characters could break the log
// line. If logs is true, the log line contains the ID.
func appendRequestID(t *text, logs bool) {
	t.line("http-request set-var(txn.request_id) req.fhdr(x-request-id) if { req.fhdr_cnt(x-request-id) eq 1 }" +
		" { req.fhdr(x-request-id) -m reg '^[0-9A-Za-z._:/+=-]{1,128}$' }")
	t.line("http-request set-var(txn.request_id) uuid() if !{ var(txn.request_id) -m found }")
	t.line("http-request set-header X-Request-ID %[var(txn.request_id)]")
	if logs {
		t.line("log-format " + requestIDFormat)
	}
}
