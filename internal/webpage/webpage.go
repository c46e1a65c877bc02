// Package webpage makes the status pages of the binaries. All pages have the same style sheet, the
// same small templates, and the same HTTP headers:
//
//	var page = webpage.New(`<header><h1>{{.Name}}</h1></header>
//	<main><h2 id="nodes">Nodes</h2>
//	{{template "scroll" "nodes"}}<table>{{heads "Node" "Zone"}}
//	{{range .Nodes.Rows}}<tr><td>{{text 100 .Name}}</td><td>{{.Zone}}</td></tr>{{end}}
//	</table></div>{{.Nodes.Note}}</main>`, nil)
//
//	page.Write(w, http.StatusOK, webpage.Head{Title: "nodes"}, data)
//
// A page runs no script and loads nothing else. Its colours follow the preference of the user for a
// light or a dark page.
//
// # Templates and functions
//
// Besides the functions of html/template, a page can use:
//
//	{{template "scroll" "ID"}}  begins a region that the user can scroll, with the name in the
//	                            element ID; </div> ends it
//	{{template "bar" .Bar}}     the time of the page, and links that load the page again; see Bar
//	{{heads "A" "B"}}           a <thead> with a header for each column
//	{{clock TIME}}              the time in UTC, or "" for the zero time
//	{{age NOW TIME}}            how long ago the time was, such as "3h 12m", or "" for the zero time
//	{{text N TEXT}}             the text, with at most N characters; see Text
//
// # What it does not do
//
// The package checks no permission, and does not decide what a page shows.
package webpage

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

//go:embed layout.html
var layout string

//go:embed style.css
var style string

// policy is the Content-Security-Policy of the pages. It permits the style sheet in the page and
// forms that lead to the same server, and nothing else.
var policy = func() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}()

// Page is the template of a page. Any number of goroutines may use it.
type Page struct{ template *template.Template }

// New returns a Page. text is a template of package html/template for the content of <body>, and
// funcs are further functions for it, or nil. New panics if the template cannot be parsed.
func New(text string, funcs template.FuncMap) *Page {
	all := template.FuncMap{"heads": heads, "clock": Clock, "age": ageText, "text": Text}
	maps.Copy(all, funcs)
	t := template.Must(template.New("layout").Funcs(all).Parse(layout))
	template.Must(t.New("body").Parse(text))
	return &Page{t}
}

// Head describes a page for its browser.
type Head struct {
	Title string
	// Refresh makes the browser load the page again every RefreshSeconds.
	Refresh bool
}

// RefreshSeconds is the time after which a page with Head.Refresh loads again.
const RefreshSeconds = 10

// Write answers a request with a page. data is the data of the template of the Page. If the
// template fails, the status is 500.
func (p *Page) Write(w http.ResponseWriter, status int, head Head, data any) {
	var b bytes.Buffer
	content := struct {
		Head
		Seconds int
		Style   template.CSS
		Data    any
	}{head, RefreshSeconds, template.CSS(style), data}
	if err := p.template.Execute(&b, content); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

// Bar is the data of the template "bar", which shows the time of the page, and links that load the
// page again.
type Bar struct {
	Now time.Time
	// Here and Other are two addresses of the page. The address in Here has the present value of
	// Refresh, and the address in Other has the opposite value.
	Here, Other string
	Refresh     bool
	Seconds     int
}

// NewBar returns the Bar of the answer to a request. Refresh is on if the query of the request
// contains refresh=on.
func NewBar(r *http.Request, now time.Time) Bar {
	query := r.URL.Query()
	b := Bar{Now: now, Refresh: query.Get("refresh") == "on", Seconds: RefreshSeconds}
	b.Here = address(r.URL.Path, query)
	if query.Del("refresh"); !b.Refresh {
		query.Set("refresh", "on")
	}
	b.Other = address(r.URL.Path, query)
	return b
}

func address(path string, query url.Values) string {
	return (&url.URL{Path: path, RawQuery: query.Encode()}).String()
}

// List contains the first elements of a longer list.
type List[T any] struct {
	Rows  []T
	Total int // number of elements of the longer list
}

// First returns the first n elements of a list.
func First[T any](list []T, n int) List[T] {
	return List[T]{list[:min(n, len(list))], len(list)}
}

// Add appends an element if the List has fewer than n rows. Add counts the element in Total even if
// it does not append it.
func (l *List[T]) Add(n int, element T) {
	if l.Total++; len(l.Rows) < n {
		l.Rows = append(l.Rows, element)
	}
}

// Note says how many elements of the longer list the page shows, such as "The first 200 of 300 are
// shown." It is "" if the List contains all elements.
func (l List[T]) Note() template.HTML {
	if len(l.Rows) == l.Total {
		return ""
	}
	return template.HTML(fmt.Sprintf(`<p class="quiet">The first %d of %d are shown.</p>`, len(l.Rows), l.Total))
}

// heads returns the head of a table.
func heads(names ...string) template.HTML {
	var b strings.Builder
	b.WriteString("<thead><tr>")
	for _, name := range names {
		b.WriteString(`<th scope="col">` + template.HTMLEscapeString(name) + "</th>")
	}
	b.WriteString("</tr></thead>")
	return template.HTML(b.String())
}

// Clock returns a time in UTC, or "" for the zero time.
func Clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func ageText(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return Duration(now.Sub(t))
}

// Duration returns a duration in at most two units, such as "2d 3h" or "5m 20s". A duration of less
// than a second is "0s". A negative duration begins with a minus sign.
func Duration(d time.Duration) string {
	if d < 0 {
		if text := Duration(-max(d, -1<<62)); text != "0s" {
			return "-" + text
		}
		return "0s"
	}
	units := [...]struct {
		name   string
		length time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.length && u.name != "s" {
			continue
		}
		text := fmt.Sprintf("%d%s", d/u.length, u.name)
		if i+1 < len(units) {
			if rest := d % u.length / units[i+1].length; rest > 0 {
				text += fmt.Sprintf(" %d%s", rest, units[i+1].name)
			}
		}
		return text
	}
	return "0s"
}

// Text makes a text of a stranger safe to show: at most n characters, with an ellipsis at the end
// if it was longer. Characters that are invisible or change the direction of the text, and bytes
// that are not UTF-8, become U+FFFD.
func Text(n int, text string) string {
	// A character has at most 4 bytes, so the first n characters are in the first 4*n bytes. Cut
	// the text there, so that the work does not grow with the length of the text.
	long := len(text) > 4*n
	if long {
		text = text[:4*n]
	}
	count := 0
	clean := strings.Map(func(r rune) rune {
		if count++; count > n {
			long = true
			return -1
		}
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
	if long {
		clean += "…"
	}
	return clean
}
