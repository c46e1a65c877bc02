package keeper

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/bearer"
	"github.com/headgate/headgate/internal/webpage"
	"github.com/headgate/headgate/nodeselect/disruption"
	"github.com/headgate/headgate/nodeselect/disruption/gate"
)

//go:embed page.html
var pageText string

var page = webpage.New(pageText, template.FuncMap{"limit": limitText})

const (
	cookieName = "nodegate-page"
	cookieTime = 12 * time.Hour
	// maxListed is the largest number of entries in a list of the page.
	maxListed = 200
)

// overview is the content of the page.
type overview struct {
	Title string
	Bar   webpage.Bar
	// Locked is true if the page shows only the form for the token. Wrong is true after a wrong token.
	Locked, Wrong bool
	// Logout is true if the page has a button to log out.
	Logout bool
	// Problem says why the Keeper cannot decide. If Problem is "", all fields below have values.
	Problem string

	Picture template.HTML
	// Wave are the nodes in use that somebody may take away at the same time now. Unused are the
	// nodes that no applied configuration contains: all of them may be taken away too.
	Wave, Unused []string
	UnusedSince  time.Time
	Away         []gate.AwayNode
	Blocked      []disruption.Blocked
	Grants       []pageGrant
	More         struct{ Away, Blocked int } // how many entries the lists lack
}

// pageGrant is a row of the table of grants.
type pageGrant struct {
	gate.Grant
	State string
}

// overview fills v with the present state of the cluster.
func (k *Keeper) overview(ctx context.Context, v *overview) error {
	return k.observe(ctx, func(in gate.Input, live []gate.Grant) ([]gate.Grant, error) {
		in.Grants = live
		g, err := gate.New(in)
		if err != nil {
			return nil, err
		}
		p := g.Picture(v.Title, disruption.DefaultSteps)
		v.Picture = template.HTML(p.SVG()) // package picture escapes all names
		v.Wave = nil
		for _, name := range p.Wave {
			if g.Used(name) {
				v.Wave = append(v.Wave, name)
			}
		}
		v.Unused, v.UnusedSince = g.Unused()
		v.Away, v.More.Away = cut(g.AwayNodes())
		v.Blocked, v.More.Blocked = cut(p.Blocked)
		v.Grants = nil
		for _, grant := range live {
			v.Grants = append(v.Grants, pageGrant{grant, grantState(grant, in.Now)})
		}
		return nil, nil
	})
}

// cut returns at most maxListed entries from the start of a list, and the number of the other
// entries.
func cut[T any](list []T) ([]T, int) {
	if len(list) > maxListed {
		return list[:maxListed], len(list) - maxListed
	}
	return list, 0
}

// limitText describes, in one line, a limit that permits no further node to be away.
func limitText(b disruption.Blocked) string {
	of := fmt.Sprintf("%d of at most %d nodes away", b.Away, b.Limit)
	switch b.Rule {
	case disruption.RuleOneZone:
		return fmt.Sprintf("one zone at a time: %d nodes away in zone %s", b.Away, b.Zone)
	case disruption.RuleShare:
		return "all nodes: " + of
	case disruption.RuleZone:
		return b.Service + " in zone " + b.Zone + ": " + of
	default:
		return b.Service + ": " + of
	}
}

func grantState(g gate.Grant, now time.Time) string {
	switch {
	case g.Pending:
		return "pending"
	case !g.Back.IsZero():
		return "back, in the hold-down"
	case !g.Went.IsZero():
		return "away"
	case g.Expired(now):
		return "too late to go"
	default:
		return "may go"
	}
}

// isPage reports whether a request belongs to the page.
func isPage(r *http.Request) bool {
	return r.URL.Path == "/" || r.URL.Path == "/login" || r.URL.Path == "/logout"
}

// servePage answers the requests of the page. token is "" if requests need no token.
func (h *Handler) servePage(w http.ResponseWriter, r *http.Request, token string) {
	v := overview{Title: h.Title, Bar: webpage.NewBar(r, time.Now()), Logout: token != ""}
	switch r.Method + " " + r.URL.Path {
	case "GET /":
	case "POST /login", "POST /logout":
		h.login(w, r, token, v)
		return
	default:
		http.Error(w, "not allowed", http.StatusMethodNotAllowed)
		return
	}
	if !pageAllowed(r, token) {
		v.Locked = true
		writePage(w, http.StatusUnauthorized, v)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	status := http.StatusOK
	if err := h.Keeper.overview(ctx, &v); err != nil {
		status, v.Problem = http.StatusServiceUnavailable, err.Error()
	}
	writePage(w, status, v)
}

// login answers the two forms of the page. For the path /login, it checks the token in the form,
// and sets the cookie if the token is right. For the path /logout, it removes the cookie.
func (h *Handler) login(w http.ResponseWriter, r *http.Request, token string, v overview) {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	cookie := &http.Cookie{Name: cookieName, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: r.TLS != nil, MaxAge: -1}
	if r.URL.Path == "/login" {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		given := strings.TrimSpace(r.PostFormValue("token"))
		if token != "" && !hmac.Equal([]byte(pageKey(given)), []byte(pageKey(token))) {
			v.Locked, v.Wrong = true, true
			writePage(w, http.StatusUnauthorized, v)
			return
		}
		cookie.Value, cookie.MaxAge = pageKey(token), int(cookieTime.Seconds())
	}
	http.SetCookie(w, cookie)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// pageKey returns the value of the cookie for a token. Nobody can compute the token from it.
func pageKey(token string) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte("the page of nodegate"))
	return hex.EncodeToString(mac.Sum(nil))
}

// pageAllowed reports whether a request may see the page, because it has the token or the cookie.
func pageAllowed(r *http.Request, token string) bool {
	if token == "" || bearer.Authorized(r, token) {
		return true
	}
	cookie, err := r.Cookie(cookieName)
	return err == nil && hmac.Equal([]byte(cookie.Value), []byte(pageKey(token)))
}

func writePage(w http.ResponseWriter, status int, v overview) {
	title := "which nodes may go now"
	if v.Title != "" {
		title = v.Title + ": " + title
	}
	page.Write(w, status, webpage.Head{Title: title, Refresh: v.Bar.Refresh && !v.Locked}, v)
}
