package sniproxy

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"time"
)

// Page is what the template of the pages is given.
type Page struct {
	// Status is the status of the answer: 400, 404, 408, 431, 502, 503, 504 or 508.
	Status int
	// Text is that in words: "Not Found".
	Text string
	// Message is a sentence for whoever sees the page.
	Message string
	// Host is the host that was asked for, in normal form; "" if no valid one was.
	Host string
	// App is the name of the application, "" where it is not known.
	App string
}

var defaultPage = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{.Status}} {{.Text}}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:36em;padding:0 1em;color:#222}h1{font-size:1.5em}p{color:#555;overflow-wrap:anywhere}</style>
<h1>{{.Status}} {{.Text}}</h1>
<p>{{.Message}}</p>
{{with .Host}}<p>Host: <b>{{.}}</b></p>
{{end}}</html>
`))

// message is the sentence of a page.
func (r refusal) message() string {
	switch r {
	case refuseUnknown:
		return "There is no application at this address."
	case refuseNoName:
		return "The request does not say which host it is for."
	case refuseBadName:
		return "The request names a host in a way that no host is called."
	case refuseTooLarge:
		return "The head of the request is too large."
	case refuseSlow:
		return "The request took too long to arrive."
	case refuseProtocol:
		return "This port expects another protocol."
	case refuseLookup:
		return "It is not known at the moment where this application runs. Please try again."
	case refuseBusy:
		return "The router is too busy. Please try again."
	case refuseDial, refuseForbidden:
		return "The application cannot be reached."
	case refuseDialTime:
		return "The application did not answer in time."
	case refuseLoop:
		return "The address of the application leads back to the router."
	}
	return "The request is malformed."
}

// maxPage bounds what a template may give: an answer is held in memory whole.
const maxPage = 1 << 20

// renderPage gives the body. A template that fails is no reason to leave the client
// without an answer.
func renderPage(t *template.Template, p Page) []byte {
	if t == nil {
		t = defaultPage
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil || b.Len() > maxPage {
		b.Reset()
		fmt.Fprintf(&b, "%d %s\n", p.Status, p.Text)
	}
	return b.Bytes()
}

// field is a header field of an answer, in lower case as HTTP/2 has it.
type field struct{ name, value string }

// pageFields are the fields of HTTP/1 and HTTP/2 alike.
func pageFields(status, length int, now time.Time) []field {
	fields := []field{
		{"date", now.UTC().Format(http.TimeFormat)}, // RFC 9110 section 6.6.1
		{"content-type", "text/html; charset=utf-8"},
		{"content-length", strconv.Itoa(length)},
		{"cache-control", "no-store"},
		{"x-content-type-options", "nosniff"},
	}
	if status == http.StatusServiceUnavailable {
		fields = append(fields, field{"retry-after", "5"})
	}
	return fields
}

// http1Answer is a whole answer of HTTP/1. HEAD has the length of the body that GET would
// have (RFC 9110 section 9.3.2).
func http1Answer(f face, status int, body []byte, now time.Time) []byte {
	b := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	for _, h := range pageFields(status, len(body), now) {
		b = fmt.Appendf(b, "%s: %s\r\n", http.CanonicalHeaderKey(h.name), h.value)
	}
	b = append(b, "Connection: close\r\n\r\n"...)
	if !f.head {
		b = append(b, body...)
	}
	return b
}
