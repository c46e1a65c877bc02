package keeper_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/headgate/headgate/nodeselect/disruption/gate/keeper"
)

// page is an answer with a parsed page.
type page struct {
	status int
	header http.Header
	root   *html.Node
	text   string
}

// elements returns all elements of the page with a tag.
func (p page) elements(tag string) (all []*html.Node) {
	for n := range p.root.Descendants() {
		if n.Type == html.ElementNode && n.Data == tag {
			all = append(all, n)
		}
	}
	return all
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// browser keeps cookies, as a browser does.
type browser struct {
	t      *testing.T
	client *http.Client
	url    string
}

func (b browser) get() page {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.url+"/", nil)
	require.NoError(b.t, err)
	return b.do(req)
}

func (b browser) post(path string, form url.Values, header ...string) page {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodPost, b.url+path, strings.NewReader(form.Encode()))
	require.NoError(b.t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return b.do(req)
}

func (b browser) do(req *http.Request) page {
	b.t.Helper()
	resp, err := b.client.Do(req)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	root, err := html.Parse(strings.NewReader(string(data)))
	require.NoError(b.t, err)
	return page{resp.StatusCode, resp.Header, root, string(data)}
}

func newBrowser(t *testing.T, h http.Handler) browser {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := srv.Client()
	client.Jar = jar
	return browser{t, client, srv.URL}
}

func TestPage(t *testing.T) {
	l := newLab()
	k := l.keeper()
	_, err := k.Take(t.Context(), "<b>kured</b>", time.Hour, "n0")
	require.NoError(t, err)
	l.set(5, "cordoned")
	b := newBrowser(t, &keeper.Handler{Keeper: k, Title: "eu-1"})
	p := b.get()
	require.Equal(t, http.StatusOK, p.status)
	require.Contains(t, p.text, "&lt;b&gt;kured&lt;/b&gt;")
	require.Contains(t, p.text, "n5 (cordoned")
	require.Contains(t, p.text, "m/s0: 1 of at most 1 nodes away")
	require.Contains(t, p.text, "Other nodes that may go together now: 0. There is no plan for later")
	require.Len(t, p.elements("svg"), 1)
	require.Empty(t, p.elements("form"), "requests need no token")
	checkStructure(t, p)

	l.mu.Lock()
	l.err = errors.New("edge: no <answer>")
	l.mu.Unlock()
	p = b.get()
	require.Equal(t, http.StatusServiceUnavailable, p.status)
	require.Contains(t, p.text, "nodegate cannot decide, so no node may go: edge: no &lt;answer&gt;")
	checkStructure(t, p)
}

// checkStructure checks that the page loads nothing, and that it can be used with a keyboard.
func checkStructure(t *testing.T, p page) {
	t.Helper()
	for _, tag := range []string{"script", "img", "iframe", "object", "embed", "base"} {
		require.Empty(t, p.elements(tag))
	}
	for n := range p.root.Descendants() {
		for _, a := range n.Attr {
			require.NotContains(t, strings.ToLower(a.Val), "javascript:")
			require.False(t, strings.HasPrefix(a.Key, "on"), "%s: %s", n.Data, a.Key)
			if (a.Key == "href" || a.Key == "src" || a.Key == "action") && a.Val != "data:," {
				require.True(t, strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "//"), a.Val)
			}
			if a.Key == "class" && strings.HasPrefix(a.Val, "scroll") {
				require.Equal(t, "0", attribute(n, "tabindex"), "the keyboard must reach it to scroll it")
				require.NotEmpty(t, attribute(n, "aria-labelledby"))
			}
		}
	}
	ids := map[string]bool{}
	for n := range p.root.Descendants() {
		if id := attribute(n, "id"); id != "" {
			require.False(t, ids[id], "%s is there twice", id)
			ids[id] = true
		}
	}
	for n := range p.root.Descendants() {
		if id := attribute(n, "aria-labelledby"); id != "" {
			require.True(t, ids[id], id)
		}
	}
	require.Len(t, p.elements("h1"), 1)
	require.Len(t, p.elements("main"), 1)
	require.Equal(t, "en", attribute(p.elements("html")[0], "lang"))
	styles := p.elements("style")
	require.Len(t, styles, 1)
	sum := sha256.Sum256([]byte(styles[0].FirstChild.Data))
	policy := p.header.Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.Contains(t, policy, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	require.Equal(t, "no-store", p.header.Get("Cache-Control"))
}

func TestPageNeedsTheToken(t *testing.T) {
	l := newLab()
	var token atomic.Pointer[string]
	set := func(s string) { token.Store(&s) }
	set("secret")
	b := newBrowser(t, &keeper.Handler{Keeper: l.keeper(), Token: func(context.Context) (string, error) { return *token.Load(), nil }})
	locked := func(p page) {
		t.Helper()
		require.Equal(t, http.StatusUnauthorized, p.status)
		require.Empty(t, p.elements("svg"))
		require.NotContains(t, p.text, "n0")
		input := p.elements("input")[0]
		require.Equal(t, "password", attribute(input, "type"))
		require.Equal(t, attribute(p.elements("label")[0], "for"), attribute(input, "id"))
		checkStructure(t, p)
	}
	locked(b.get())
	p := b.post("/login", url.Values{"token": {"wrong"}})
	locked(p)
	require.Contains(t, p.text, "This is not the token.")
	locked(b.post("/login", url.Values{}))
	require.Equal(t, http.StatusForbidden, b.post("/login", url.Values{"token": {"secret"}}, "Sec-Fetch-Site", "cross-site").status)
	locked(b.get())

	p = b.post("/login", url.Values{"token": {" secret\n"}}) // follows the redirection
	require.Equal(t, http.StatusOK, p.status)
	require.Len(t, p.elements("svg"), 1)
	checkStructure(t, p)
	home, err := url.Parse(b.url)
	require.NoError(t, err)
	require.NotContains(t, b.client.Jar.Cookies(home)[0].Value, "secret")

	// The cookie only shows the page.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+"/v1/grants", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, b.do(req).status)

	set("another")
	locked(b.get())
	set("secret")
	require.Equal(t, http.StatusOK, b.get().status)
	locked(b.post("/logout", nil))
	locked(b.get())
}

func TestCookieOfThePage(t *testing.T) {
	h := &keeper.Handler{Keeper: newLab().keeper(), Token: func(context.Context) (string, error) { return "secret", nil }}
	srv := httptest.NewTLSServer(h)
	defer srv.Close()
	client := srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/login", strings.NewReader("token=secret"))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusSeeOther, resp.StatusCode)
	cookie := resp.Cookies()[0]
	require.True(t, cookie.HttpOnly && cookie.Secure && cookie.SameSite == http.SameSiteStrictMode, cookie)
}
