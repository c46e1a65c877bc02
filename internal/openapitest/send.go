package openapitest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Option changes a request.
type Option func(*http.Request)

// Header sets a header of the request.
func Header(name, value string) Option {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// Context sets the context of the request.
func Context(ctx context.Context) Option {
	return func(r *http.Request) { *r = *r.WithContext(ctx) }
}

// Body sets the body of a request. The type of the body is the argument "mediaType".
func Body(mediaType, text string) Option {
	return func(r *http.Request) {
		with := httptest.NewRequest(r.Method, r.URL.String(), strings.NewReader(text))
		r.Body, r.ContentLength = with.Body, with.ContentLength
		r.Header.Set("Content-Type", mediaType)
	}
}

// Send sends a request to a handler, and returns the answer. It fails the test if the answer has
// another status, or if the document does not list the answer. The Host of the request is
// 127.0.0.1.
func (d *Document) Send(t testing.TB, h http.Handler, method, target string, status int, options ...Option) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, "http://127.0.0.1"+target, nil).WithContext(t.Context())
	r.RequestURI = target
	for _, o := range options {
		o(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != status {
		t.Fatalf("%s %s: status %d, want %d: %s", method, target, w.Code, status, w.Body)
	}
	d.Check(t, method, r.URL.Path, w.Code, w.Header(), w.Body.Bytes())
	return w
}

// Check fails the test if the document does not list an answer.
func (d *Document) Check(t testing.TB, method, path string, status int, header http.Header, body []byte) {
	t.Helper()
	op := d.find(method, path)
	if op == nil {
		t.Fatalf("%s lists no %s %s", d.Title, method, path)
	}
	where := fmt.Sprintf("%s %s %d", op.Method, op.Path, status)
	d.seen[where] = true
	i := slices.IndexFunc(op.Answers, func(a Answer) bool { return a.Status == status })
	if i < 0 {
		t.Fatalf("%s does not list %s: %s", d.Title, where, body)
	}
	answer := op.Answers[i]
	for name, v := range answer.headers {
		h := d.resolve(v)
		value := header.Get(name)
		if required, _ := h["required"].(bool); required && value == "" {
			t.Errorf("%s: the answer lacks the header %s", where, name)
		}
		if value != "" {
			d.checkValue(t, where+": header "+name, h["schema"], value)
		}
	}
	if len(answer.content) == 0 {
		return
	}
	mediaType, _, _ := mime.ParseMediaType(cmp.Or(header.Get("Content-Type"), http.DetectContentType(body))) // as net/http does
	content, ok := answer.content[mediaType].(object)
	if !ok {
		t.Fatalf("%s: the answer has the type %q, and the document lists %v", where, mediaType, answer.MediaTypes())
	}
	if mediaType == "application/json" {
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		d.checkValue(t, where, content["schema"], v)
	}
}

// checkValue fails the test if the value v does not match the schema, or if checkValue does not
// know a keyword of the schema.
func (d *Document) checkValue(t testing.TB, where string, schema, v any) {
	t.Helper()
	if schema == nil {
		return
	}
	s := d.resolve(schema)
	for key, rule := range s {
		ok := true
		switch key {
		case "description", "format", "properties", "additionalProperties", "items":
		case "type":
			ok = slices.ContainsFunc(append(list(rule), rule), func(name any) bool { return isType(v, name) })
		case "const":
			ok = fmt.Sprint(v) == fmt.Sprint(rule)
		case "enum":
			ok = slices.Contains(list(rule), v)
		case "pattern":
			ok = regexp.MustCompile(rule.(string)).MatchString(v.(string))
		case "minimum":
			ok = v.(float64) >= float64(rule.(int))
		case "maximum":
			ok = v.(float64) <= float64(rule.(int))
		case "required":
			o, _ := v.(object)
			for _, name := range list(rule) {
				if _, has := o[name.(string)]; o != nil && !has {
					t.Errorf("%s: the member %s is missing", where, name)
				}
			}
		case "allOf":
			for _, part := range list(rule) {
				d.checkValue(t, where, part, v)
			}
		default:
			t.Fatalf("%s: package openapitest does not check %q", where, key)
		}
		if !ok {
			t.Errorf("%s: %v breaks the rule %s: %v", where, v, key, rule)
		}
	}
	switch v := v.(type) {
	case object:
		properties, _ := s["properties"].(object)
		for name, member := range v {
			if property, ok := properties[name]; ok {
				d.checkValue(t, where+"."+name, property, member)
			} else if other, ok := s["additionalProperties"].(object); ok {
				d.checkValue(t, where+"."+name, other, member)
			} else if s["additionalProperties"] == false {
				t.Errorf("%s: the document does not list the member %s", where, name)
			}
		}
	case []any:
		for i, item := range v {
			d.checkValue(t, fmt.Sprintf("%s[%d]", where, i), s["items"], item)
		}
	}
}

func isType(v, name any) bool {
	switch v := v.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case []any:
		return name == "array"
	case object:
		return name == "object"
	case float64:
		return name == "number" || name == "integer" && v == float64(int64(v))
	}
	return false
}

// RequireAll fails the test unless Send and Check have seen each answer that the document lists.
// The keys of except, such as "GET /changes 503", are the answers that the test cannot get, and the
// values are the reasons.
func (d *Document) RequireAll(t testing.TB, except map[string]string) {
	t.Helper()
	for _, op := range d.Operations {
		for _, a := range op.Answers {
			where := fmt.Sprintf("%s %s %d", op.Method, op.Path, a.Status)
			if _, ok := except[where]; !ok && !d.seen[where] {
				t.Errorf("%s lists %s, and the test has not seen it", d.Title, where)
			} else if ok && d.seen[where] {
				t.Errorf("the test has seen the exception %s", where)
			}
		}
	}
}

// SendRefused sends the requests that the guard of an admin listener must refuse: a request whose
// Host header names another host, and a request that a browser sends for a page of another site.
// For operations that need the token, it also sends a request without the token.
func (d *Document) SendRefused(t testing.TB, h http.Handler) {
	t.Helper()
	for _, op := range d.Operations {
		if op.Method == http.MethodGet {
			d.Send(t, h, op.Method, op.Path, http.StatusForbidden, func(r *http.Request) { r.Host = "other.example" })
			continue
		}
		d.Send(t, h, op.Method, op.Path, http.StatusForbidden, Header("Origin", "http://other.example"))
		d.Send(t, h, op.Method, op.Path, http.StatusUnauthorized)
	}
}

// Remote returns a handler that sends each request to the address of a server.
func Remote(addr string) http.Handler {
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", addr
	}}
}
