package webpage_test

import (
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/headgate/headgate/internal/webpage"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func TestWrite(t *testing.T) {
	page := webpage.New(`<main><h1 id="a">{{.Name}}</h1>{{template "bar" .Bar}}{{template "scroll" "a"}}<table>{{heads "A" "<b>"}}</table></div>{{.List.Note}}{{twice "x"}}</main>`,
		template.FuncMap{"twice": func(s string) string { return s + s }})
	type data struct {
		Name string
		Bar  webpage.Bar
		List webpage.List[int]
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/?q=%22%3E%3Cscript%3E", nil)
	page.Write(w, http.StatusTeapot, webpage.Head{Title: "</title><script>"}, data{"<script>alert(1)</script>", webpage.NewBar(r, noon), webpage.First([]int{1, 2, 3}, 2)})
	require.Equal(t, http.StatusTeapot, w.Code)
	text := w.Body.String()
	require.NotContains(t, text, "<script")
	require.Contains(t, text, `<th scope="col">&lt;b&gt;</th>`)
	require.Contains(t, text, "As of 2026-05-01 12:00:00 UTC")
	require.Contains(t, text, "The first 2 of 3 are shown.")
	require.Contains(t, text, "xx</main>")
	require.NotContains(t, text, `http-equiv="refresh"`)

	root, err := html.Parse(strings.NewReader(text))
	require.NoError(t, err)
	styles := 0
	for n := range root.Descendants() {
		if n.Type != html.ElementNode || n.Data != "style" {
			continue
		}
		styles++
		sum := sha256.Sum256([]byte(n.FirstChild.Data))
		require.Equal(t, "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+
			"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'", w.Header().Get("Content-Security-Policy"))
	}
	require.Equal(t, 1, styles)
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"))

	w = httptest.NewRecorder()
	page.Write(w, http.StatusOK, webpage.Head{Refresh: true}, data{})
	require.Contains(t, w.Body.String(), `<meta http-equiv="refresh" content="10">`)

	w = httptest.NewRecorder()
	page.Write(w, http.StatusOK, webpage.Head{}, struct{}{}) // has no field Name
	require.Equal(t, http.StatusInternalServerError, w.Code)
}

func TestBar(t *testing.T) {
	bar := webpage.NewBar(httptest.NewRequest(http.MethodGet, "/status?q=a+b", nil), noon)
	require.Equal(t, webpage.Bar{Now: noon, Here: "/status?q=a+b", Other: "/status?q=a+b&refresh=on", Seconds: 10}, bar)
	bar = webpage.NewBar(httptest.NewRequest(http.MethodGet, bar.Other, nil), noon)
	require.Equal(t, webpage.Bar{Now: noon, Here: "/status?q=a+b&refresh=on", Other: "/status?q=a+b", Refresh: true, Seconds: 10}, bar)
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Millisecond: "0s", -time.Millisecond: "0s", 59 * time.Second: "59s", time.Minute: "1m",
		61 * time.Second: "1m 1s", 3*time.Hour + 12*time.Minute + 5*time.Second: "3h 12m", 24 * time.Hour: "1d",
		50 * time.Hour: "2d 2h", -2 * time.Minute: "-2m", -1 << 63: "-53375d 23h",
	} {
		require.Equal(t, want, webpage.Duration(d))
	}
	require.Empty(t, webpage.Clock(time.Time{}))
}

func FuzzText(f *testing.F) {
	f.Fuzz(func(t *testing.T, n int, text string) {
		n = min(max(n, 0), 1000)
		clean := webpage.Text(n, text)
		require.True(t, utf8.ValidString(clean))
		body, cut := strings.CutSuffix(clean, "…")
		if utf8.RuneCountInString(clean) > n {
			require.True(t, cut)
			require.LessOrEqual(t, utf8.RuneCountInString(body), n)
		}
		require.NotContains(t, clean, "\u202e")
		require.NotContains(t, clean, "\n")
	})
}

func TestText(t *testing.T) {
	require.Equal(t, "abc", webpage.Text(3, "abc"))
	require.Equal(t, "ab…", webpage.Text(2, "abc"))
	require.Equal(t, "日本語", webpage.Text(3, "日本語"))
	require.Equal(t, "日…", webpage.Text(1, "日本語日本語"))
	require.Equal(t, "a\ufffdb\ufffd", webpage.Text(9, "a\u202eb\x00"))
}
