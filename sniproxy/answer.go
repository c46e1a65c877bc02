package sniproxy

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/headgate/headgate/sniproxy/peek"
)

// refusal is why a client is not relayed, as far as its answer depends on that.
type refusal uint8

const (
	refuseUnknown   refusal = iota // the host is not known
	refuseNoName                   // none was named
	refuseBadName                  // what was named is none
	refuseMalformed                // the bytes break their protocol
	refuseTooLarge                 // they are too many
	refuseSlow                     // they did not come in time
	refuseProtocol                 // another protocol than this listener takes
	refuseLookup                   // the endpoint is unknown for now
	refuseDial                     // it could not be connected to
	refuseDialTime                 // … in time
	refuseBusy                     // this server lacks descriptors or the like
	refuseLoop                     // the endpoint is this server
	refuseForbidden                // … or an address that may not be connected to
)

// The alerts in use, RFC 8446 section 6.
const (
	alertHandshakeFailure      = 40
	alertDecodeError           = 50
	alertInternalError         = 80
	alertMissingExtension      = 109
	alertUnrecognizedName      = 112
	alertLevelFatal            = 2
	recordAlert                = 21
	versionTLS10, versionTLS12 = 0x0301, 0x0303
)

// alert is the description of the TLS alert for a refusal.
func (r refusal) alert(f clientInfo) byte {
	switch r {
	case refuseUnknown, refuseBadName:
		return alertUnrecognizedName // RFC 6066 section 3
	case refuseNoName:
		if f.version >= tls.VersionTLS13 {
			return alertMissingExtension // RFC 8446 section 9.2
		}
		return alertUnrecognizedName
	case refuseMalformed, refuseTooLarge:
		return alertDecodeError
	case refuseProtocol:
		return alertHandshakeFailure
	}
	return alertInternalError
}

// status is the status of HTTP for a refusal.
func (r refusal) status() int {
	switch r {
	case refuseUnknown:
		return 404
	case refuseTooLarge:
		return 431 // RFC 6585 section 5
	case refuseSlow:
		return 408
	case refuseLookup, refuseBusy:
		return 503
	case refuseDial, refuseForbidden:
		return 502
	case refuseDialTime:
		return 504
	case refuseLoop:
		return 508 // RFC 5842 section 7.2
	}
	return 400
}

// outcome is the Outcome of a connection that ended with a refusal.
func (r refusal) outcome() Outcome {
	switch r {
	case refuseUnknown, refuseNoName:
		return NotFound
	case refuseSlow:
		return TimedOut
	case refuseLookup:
		return LookupFailed
	case refuseDial, refuseDialTime, refuseBusy, refuseLoop, refuseForbidden:
		return DialFailed
	}
	return Rejected
}

// alertRecord is an alert as it goes over the wire, in clear as no keys are agreed on.
func alertRecord(f clientInfo, description byte) []byte {
	version := uint16(versionTLS12)
	if f.legacy != 0 {
		version = min(max(f.legacy, versionTLS10), versionTLS12)
	}
	return []byte{recordAlert, byte(version >> 8), byte(version & 0xff), 0, 2, alertLevelFatal, description}
}

// refusalOf sorts an error of peek, or of the end of a hello.
func refusalOf(err error) refusal {
	switch {
	case errors.Is(err, peek.ErrNoName):
		return refuseNoName
	case errors.Is(err, peek.ErrInvalidName):
		return refuseBadName
	case errors.Is(err, peek.ErrTooLarge):
		return refuseTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuseSlow
	case errors.Is(err, peek.ErrNotTLS), errors.Is(err, peek.ErrNotHTTP):
		return refuseProtocol
	}
	return refuseMalformed
}

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
func http1Answer(f clientInfo, status int, body []byte, now time.Time) []byte {
	b := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n", status, http.StatusText(status))
	for _, h := range pageFields(status, len(body), now) {
		b = fmt.Appendf(b, "%s: %s\r\n", http.CanonicalHeaderKey(h.name), h.value)
	}
	b = append(b, "Connection: close\r\n\r\n"...)
	if !f.isHead {
		b = append(b, body...)
	}
	return b
}

const (
	h2FrameHeader   = 9
	h2Window        = 65535 // RFC 9113 section 6.9.2
	h2MaxFrame      = 16384 // section 4.2: what every client takes
	h2InitialWindow = uint16(http2.SettingInitialWindowSize)
)

// h2Stream finds the stream of the first request and how many bytes of an answer the
// client takes on it. b begins with the preface. Both are 0 where no request began.
func http2Request(b []byte) (stream, window uint32) {
	window = h2Window
	if len(b) < len(http2.ClientPreface) {
		return 0, 0
	}
	for b = b[len(http2.ClientPreface):]; len(b) >= h2FrameHeader; {
		n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		body := b[h2FrameHeader:min(h2FrameHeader+n, len(b))]
		switch http2.FrameType(b[3]) {
		case http2.FrameHeaders:
			// Never more than what a connection may have, which SETTINGS do not change.
			return binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1), min(window, h2Window)
		case http2.FrameSettings:
			for ; len(body) >= 6; body = body[6:] {
				if binary.BigEndian.Uint16(body) == h2InitialWindow {
					window = binary.BigEndian.Uint32(body[2:])
				}
			}
		}
		b = b[min(h2FrameHeader+n, len(b)):]
	}
	return 0, 0
}

// h2Answer is a whole answer of HTTP/2: the settings that a server begins with, the answer
// on the stream of the request, and the end of the connection. Where no request can be
// answered it is the end of the connection alone.
func http2Answer(f clientInfo, status int, body []byte, now time.Time) []byte {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	// Nothing below fails: the writer does not, and the frames are within bounds.
	_ = fr.WriteSettings()
	if f.stream == 0 {
		_ = fr.WriteGoAway(0, http2.ErrCodeProtocol, nil)
		return b.Bytes()
	}
	_ = fr.WriteSettingsAck() // of the settings that come first
	whole := body
	if f.isHead || len(body) > int(f.window) {
		body = nil
	}
	if !f.isHead {
		whole = body
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	// A client that allows less of a table than there is at first wants to be told so before
	// anything else (RFC 7541 section 4.2), and one block makes no use of a table.
	enc.SetMaxDynamicTableSize(0)
	_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: strconv.Itoa(status)})
	for _, h := range pageFields(status, len(whole), now) {
		_ = enc.WriteField(hpack.HeaderField{Name: h.name, Value: h.value})
	}
	_ = fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: f.stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: len(body) == 0,
	})
	for len(body) > 0 {
		n := min(len(body), h2MaxFrame)
		_ = fr.WriteData(f.stream, n == len(body), body[:n])
		body = body[n:]
	}
	_ = fr.WriteGoAway(f.stream, http2.ErrCodeNo, nil)
	return b.Bytes()
}
