package peek_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/sniproxy/peek"
)

// head returns the lines with CRLF, and an empty line after them.
func head(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

func TestHTTP1(t *testing.T) {
	for title, c := range map[string]struct {
		head string
		host string
		err  error
	}{
		"plain":                          {head("GET / HTTP/1.1", "Host: a.example"), "a.example", nil},
		"as it was sent":                 {head("GET / HTTP/1.1", "hOsT:  A.Example.:8080\t"), "A.Example.:8080", nil},
		"no space":                       {head("GET / HTTP/1.1", "Host:a.example"), "a.example", nil},
		"between others":                 {head("POST /x HTTP/1.1", "Accept: */*", "Host: a.example", "X-Host: b.example", "Content-Length: 4") + "body", "a.example", nil},
		"HTTP/1.0":                       {head("GET / HTTP/1.0", "Host: a.example"), "a.example", nil},
		"HTTP/1.0 without":               {head("GET / HTTP/1.0"), "", peek.ErrNoName},
		"HTTP/1.2":                       {head("GET / HTTP/1.2", "Host: a.example"), "a.example", nil},
		"empty":                          {head("GET / HTTP/1.1", "Host:"), "", peek.ErrNoName},
		"blank":                          {head("GET / HTTP/1.1", "Host: \t "), "", peek.ErrNoName},
		"asterisk":                       {head("OPTIONS * HTTP/1.1", "Host: a.example"), "a.example", nil},
		"other method":                   {head("VERSION-CONTROL / HTTP/1.1", "Host: a.example"), "a.example", nil},
		"two slashes are a path":         {head("GET //b.example/ HTTP/1.1", "Host: a.example"), "a.example", nil},
		"URL in a path":                  {head("GET /http://b.example/ HTTP/1.1", "Host: a.example"), "a.example", nil},
		"absolute":                       {head("GET http://a.example/x HTTP/1.1", "Host: a.example"), "a.example", nil},
		"absolute without path":          {head("GET http://a.example HTTP/1.1", "Host: a.example"), "a.example", nil},
		"absolute with query":            {head("GET http://a.example?b.example/ HTTP/1.1", "Host: a.example"), "a.example", nil},
		"absolute, other case":           {head("GET HTTP://A.Example/ HTTP/1.1", "Host: a.example"), "A.Example", nil},
		"absolute, port in one":          {head("GET http://a.example:80/ HTTP/1.1", "Host: a.example"), "a.example:80", nil},
		"absolute, dot in one":           {head("GET http://a.example/ HTTP/1.1", "Host: a.example."), "a.example", nil},
		"absolute, HTTP/1.0":             {head("GET http://a.example/ HTTP/1.0"), "a.example", nil},
		"absolute, at sign in path":      {head("GET http://a.example/@b.example HTTP/1.1", "Host: a.example"), "a.example", nil},
		"connect":                        {head("CONNECT a.example:443 HTTP/1.1", "Host: a.example:443"), "a.example:443", nil},
		"bytes above ASCII":              {head("GET /\xff HTTP/1.1", "X: \xe4", "Host: a.example"), "a.example", nil},
		"bare LF":                        {"GET / HTTP/1.1\nHost: a.example\n\n", "a.example", nil},
		"a blank line":                   {"\r\n" + head("GET / HTTP/1.1", "Host: a.example"), "a.example", nil},
		"blank lines":                    {"\r\n\r\n" + head("GET / HTTP/1.1", "Host: a.example"), "a.example", nil},
		"a blank line with LF":           {"\n" + head("GET / HTTP/1.1", "Host: a.example"), "a.example", nil},
		"16 blank lines":                 {strings.Repeat("\r\n", 16) + head("GET / HTTP/1.1", "Host: a.example"), "a.example", nil},
		"17 blank lines":                 {strings.Repeat("\r\n", 17) + head("GET / HTTP/1.1", "Host: a.example"), "", peek.ErrNotHTTP},
		"a blank line with CR":           {"\r" + head("GET / HTTP/1.1", "Host: a.example"), "", peek.ErrNotHTTP},
		"a line with a space":            {" \r\n" + head("GET / HTTP/1.1", "Host: a.example"), "", peek.ErrNotHTTP},
		"blank line, then a space":       {"\r\n " + head("GET / HTTP/1.1", "Host: a.example"), "", peek.ErrNotHTTP},
		"blank line, then HTTP/2":        {"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", peek.ErrNotHTTP},
		"pipelined":                      {head("GET / HTTP/1.1", "Host: a.example") + head("GET / HTTP/1.1", "Host: b.example"), "a.example", nil},
		"host of any bytes":              {head("GET / HTTP/1.1", "Host: a.example/, b"), "a.example/, b", nil},
		"missing":                        {head("GET / HTTP/1.1", "X: y"), "", peek.ErrMalformed},
		"two":                            {head("GET / HTTP/1.1", "Host: a.example", "Host: b.example"), "", peek.ErrMalformed},
		"two that agree":                 {head("GET / HTTP/1.1", "Host: a.example", "host: a.example"), "", peek.ErrMalformed},
		"two, one empty":                 {head("GET / HTTP/1.1", "Host:", "Host: a.example"), "", peek.ErrMalformed},
		"two, HTTP/1.0":                  {head("GET / HTTP/1.0", "Host: a.example", "Host: a.example"), "", peek.ErrMalformed},
		"folded":                         {head("GET / HTTP/1.1", "Host:", " a.example"), "", peek.ErrMalformed},
		"folded elsewhere":               {head("GET / HTTP/1.1", "Host: a.example", "X: y", "\tHost: b.example"), "", peek.ErrMalformed},
		"folded at once":                 {head("GET / HTTP/1.1", " Host: b.example", "Host: a.example"), "", peek.ErrMalformed},
		"space before the colon":         {head("GET / HTTP/1.1", "Host : a.example"), "", peek.ErrMalformed},
		"tab before the colon":           {head("GET / HTTP/1.1", "Host: a.example", "Host\t: b.example"), "", peek.ErrMalformed},
		"NUL in the name":                {head("GET / HTTP/1.1", "Host\x00: a.example"), "", peek.ErrMalformed},
		"NUL in the value":               {head("GET / HTTP/1.1", "Host: a.example\x00.evil"), "", peek.ErrMalformed},
		"odd name":                       {head("GET / HTTP/1.1", "Host@: a.example"), "", peek.ErrMalformed},
		"name above ASCII":               {head("GET / HTTP/1.1", "H\xf6st: b.example", "Host: a.example"), "", peek.ErrMalformed},
		"no colon":                       {head("GET / HTTP/1.1", "Host a.example"), "", peek.ErrMalformed},
		"no name":                        {head("GET / HTTP/1.1", ": a.example"), "", peek.ErrMalformed},
		"bare CR":                        {head("GET / HTTP/1.1", "X: y\rHost: b.example", "Host: a.example"), "", peek.ErrMalformed},
		"two CR":                         {head("GET / HTTP/1.1", "Host: a.example\r"), "", peek.ErrMalformed},
		"LF, then CRLF":                  {"GET / HTTP/1.1\nHost: a.example\r\n\r\n", "", peek.ErrMalformed},
		"CRLF, then LF":                  {"GET / HTTP/1.1\r\nX: y\nHost: a.example\r\n\r\n", "", peek.ErrMalformed},
		"CRLF, then LF at the end":       {"GET / HTTP/1.1\r\nHost: a.example\r\n\n", "", peek.ErrMalformed},
		"absolute and another":           {head("GET http://a.example/ HTTP/1.1", "Host: b.example"), "", peek.ErrMalformed},
		"absolute, without Host":         {head("GET http://a.example/ HTTP/1.1"), "", peek.ErrMalformed},
		"absolute and empty":             {head("GET http://a.example/ HTTP/1.1", "Host:"), "", peek.ErrMalformed},
		"absolute and an invalid one":    {head("GET http://a.example/ HTTP/1.1", "Host: a.example/"), "", peek.ErrMalformed},
		"absolute, invalid, and another": {head("GET http://a_%/ HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"absolute without host":          {head("GET http:///x HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"user information":               {head("GET http://b.example@a.example/ HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"no scheme":                      {head("GET ://a.example/ HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"bad scheme":                     {head("GET h_p://a.example/ HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"scheme of a digit":              {head("GET 1://a.example/ HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"no path":                        {head("GET a.example HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"connect to another":             {head("CONNECT b.example:443 HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"connect to a path":              {head("CONNECT /x:y HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"connect to a path, alone":       {head("CONNECT /x:443 HTTP/1.0"), "", peek.ErrMalformed},
		"connect with a user":            {head("CONNECT a@b:443 HTTP/1.0"), "", peek.ErrMalformed},
		"DEL in the value":               {head("GET / HTTP/1.1", "Host: a.example\x7f"), "", peek.ErrMalformed},
		"connect without port":           {head("CONNECT a.example HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"two spaces":                     {head("GET  / HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"space in the target":            {head("GET /a b HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"tab in the target":              {head("GET /a\tb HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"no version":                     {head("GET /", "Host: a.example"), "", peek.ErrMalformed},
		"no target":                      {head("GET HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"HTTP/2.0":                       {head("GET / HTTP/2.0", "Host: a.example"), "", peek.ErrMalformed},
		"HTTP/1.x":                       {head("GET / HTTP/1.x", "Host: a.example"), "", peek.ErrMalformed},
		"HTTP/1.10":                      {head("GET / HTTP/1.10", "Host: a.example"), "", peek.ErrMalformed},
		"lower case version":             {head("GET / http/1.1", "Host: a.example"), "", peek.ErrMalformed},
		"PROXY protocol":                 {"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + head("GET / HTTP/1.1", "Host: a.example"), "", peek.ErrMalformed},
	} {
		t.Run(title, func(t *testing.T) {
			r, err := peek.ParseHTTP1([]byte(c.head))
			if c.err == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, c.err)
			}
			require.Equal(t, c.host, r.Host)
			agreeWithHTTP(t, []byte(c.head))
			checkPrefixes(t, []byte(c.head), nil, http1Answer)
			if err == nil {
				request := strings.TrimLeft(c.head, "\r\n")
				method, _, _ := strings.Cut(request, " ")
				require.Equal(t, method, r.Method)
				require.Equal(t, len(c.head)-len(request), r.Blank)
				require.Regexp(t, "\n\r?\n$", c.head[:r.Len])
			}
		})
	}
}

func TestHTTP1ErrorsSayWhere(t *testing.T) {
	_, err := peek.ParseHTTP1([]byte(head("GET / HTTP/1.1", "Host: a.example", "Host: b.example")))
	require.EqualError(t, err, "peek: malformed: Host: second one at byte 33")
	_, err = peek.ParseHTTP1([]byte(head("GET / HTTP/1.1", "Ho st: a.example")))
	require.EqualError(t, err, "peek: malformed: header field: white space in the name at byte 18")
	_, err = peek.ParseHTTP1([]byte(head("GET / HTTP/1.1", "A: b\x01")))
	require.EqualError(t, err, "peek: malformed: request head: control character at byte 20")
}

// The error is at the folded line itself, not at a later one.
func TestHTTP1FoldedLines(t *testing.T) {
	for _, line := range []string{" b", "\tb", " Host: b.example", "\tHost: b.example", " ", "\t"} {
		_, err := peek.ParseHTTP1([]byte(head("GET / HTTP/1.1", "Host: a.example", line)))
		require.EqualError(t, err, "peek: malformed: header field: folded line at byte 33")
	}
}

func TestMethods(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get"} {
		r, err := peek.ParseHTTP1([]byte(head(method+" / HTTP/1.1", "Host: a.example")))
		require.NoError(t, err)
		require.Equal(t, method, r.Method)
	}
}

func TestHTTP1Bounds(t *testing.T) {
	fill := func(n int) []byte {
		b := []byte("GET / HTTP/1.1\r\nHost: a.example\r\nX: ")
		return append(append(b, bytes.Repeat([]byte("y"), n-len(b)-4)...), "\r\n\r\n"...)
	}
	r, err := peek.ParseHTTP1(fill(peek.MaxBytes))
	require.NoError(t, err)
	require.Equal(t, peek.MaxBytes, r.Len)
	over := fill(peek.MaxBytes + 1)
	_, err = peek.ParseHTTP1(over)
	require.ErrorIs(t, err, peek.ErrTooLarge)
	_, err = peek.ParseHTTP1(over[:peek.MaxBytes])
	require.ErrorIs(t, err, peek.ErrTooLarge)
	_, err = peek.ParseHTTP1(over[:peek.MaxBytes-1])
	require.ErrorIs(t, err, peek.ErrNeedMore)
}

// The test sends each entry of the table to a server of net/http. The server must never serve
// another host than the host that the parser returns.
func TestHTTP1AgreesWithTheServer(t *testing.T) {
	served := ""
	server := newServer(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { served = r.Host }))
	for _, request := range []string{
		head("GET / HTTP/1.1", "Host: a.example"),
		head("GET / HTTP/1.0", "Host: a.example"),
		head("GET / HTTP/1.0"),
		head("GET / HTTP/1.1", "Host:"),
		head("GET http://a.example/ HTTP/1.1", "Host: A.EXAMPLE:80"),
		head("GET http://A.example:81/ HTTP/1.0"),
		head("CONNECT a.example:443 HTTP/1.1", "Host: a.example"),
		head("OPTIONS * HTTP/1.1", "Host: a.example"),
		head("GET //b.example/ HTTP/1.1", "Host: a.example"),
		head("GET / HTTP/1.1", "Host: a.example", "Host: b.example"),
		head("GET / HTTP/1.1", "Host : a.example"),
		"GET / HTTP/1.1\nHost: a.example\n\n",
	} {
		served = "nothing"
		status := server.ask(t, request)
		r, err := peek.ParseHTTP1([]byte(request))
		if err == nil || err == peek.ErrNoName {
			require.Equal(t, 200, status, request)
			require.Equal(t, served, r.Host, request)
		} else {
			require.Equal(t, 400, status, request)
		}
	}
}
