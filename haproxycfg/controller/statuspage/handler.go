package statuspage

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/headgate/headgate/haproxycfg/certs"
	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/controller/journal"
	"github.com/headgate/headgate/haproxycfg/deploy"
	"github.com/headgate/headgate/haproxycfg/kube"
	"github.com/headgate/headgate/haproxycfg/routes"
	"github.com/headgate/headgate/haproxycfg/shift"
	"github.com/headgate/headgate/internal/webpage"
	"github.com/headgate/headgate/nodeselect"
)

const (
	// MaxRows is the largest number of rows of a list on the page.
	MaxRows = 100
	// ExpiresSoon is a duration: the page warns of each certificate that expires within this time.
	ExpiresSoon = 21 * 24 * time.Hour
	// MaxQuery is a number of bytes. If a parameter of the query is longer, the page ignores the
	// rest.
	MaxQuery = 1000
)

//go:embed page.html
var text string

var page = webpage.New(text, template.FuncMap{
	"state": connectivityText, "reload": reloadText, "reason": reasonText, "place": place, "percent": shift.FormatPercent,
	"serviceLink": serviceLink, "targetLink": targetLink, "left": webpage.Duration, "share": shareText,
})

// Handler serves the page. Set the fields before the first request.
type Handler struct {
	// Title is the name of the terminator on the page; "" means "terminator".
	Title string
	// View returns the state of the terminator. Required. Several goroutines may call View at the
	// same time.
	View func(context.Context) View
	// Explain says where the requests for a target go, and which nodes serve them. If Explain is
	// nil, the page cannot show these facts.
	Explain func(context.Context, explain.Target) (explain.Explanation, error)
	// Command returns a command that sends a request with this method and path to the admin
	// listener. If Command returns "" or is nil, the page shows the method and the path instead.
	Command func(method, path string) string
}

// data is the data of page.html.
type data struct {
	View
	Title        string
	Bar          webpage.Bar
	Allow        string // a command, or View.Allow
	Release      string
	Losses       []loss
	Causes       webpage.List[kube.Cause]
	Shifts       webpage.List[shiftRow]
	Clusters     webpage.List[clusterRow]
	Problems     webpage.List[*kube.Problem]
	Certificates int
	Expiring     webpage.List[certs.Record]
	BadFiles     webpage.List[*kube.Problem]
	Query        string
	Node         string // filter of nodes
	Routes       webpage.List[routes.Route]
	AllRoutes    int

	Asked       string // host and path, or service; "" if the request asks for neither
	AskedFor    url.Values
	Explanation *explain.Explanation
	Services    []service
	Trouble     string // why there is no Explanation
}

type loss struct {
	Kind string
	deploy.Loss
}

type shiftRow struct {
	shift.Shift
	Share string
	Undo  string
}

type clusterRow struct {
	Cluster
	Report *kube.ClusterReport // nil if unknown
}

// service is a service of the Explanation. Each of its lists has at most MaxRows rows.
type service struct {
	*explain.Service
	Nodes, Unused webpage.List[explain.Node]
}

// ServeHTTP implements http.Handler. It answers GET and HEAD.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "not allowed", http.StatusMethodNotAllowed)
		return
	}
	v := h.View(r.Context())
	d := data{View: v, Title: cmp.Or(h.Title, "terminator"), Bar: webpage.NewBar(r, v.Now)}
	h.fill(&d)
	status := h.answerQuery(r, &d)
	page.Write(w, status, webpage.Head{Title: d.Title, Refresh: d.Bar.Refresh}, d)
}

// command returns a command that sends a request to the admin listener.
func (h *Handler) command(method, path string) string {
	if h.Command != nil {
		if command := h.Command(method, path); command != "" {
			return command
		}
	}
	return method + " " + path
}

// fill fills the parts of the page that do not depend on the query.
func (h *Handler) fill(d *data) {
	v := &d.View
	if c := v.Refused; c != nil {
		d.Losses = losses(c.Losses)
		d.Causes = webpage.First(c.Causes, 10)
		d.Causes.Total += c.MoreCauses
		switch command := h.command(http.MethodPost, "/force?id="+url.QueryEscape(c.ID)); {
		case !v.MayForce:
		case strings.HasPrefix(command, http.MethodPost+" ") && v.Allow != "":
			d.Allow = v.Allow
		default:
			d.Allow = command
		}
	}
	if v.Hold != nil {
		d.Release = h.command(http.MethodPost, "/release")
	}
	shown := webpage.First(v.Shifts, MaxRows)
	d.Shifts = webpage.List[shiftRow]{Total: shown.Total}
	for _, s := range shown.Rows {
		row := shiftRow{Shift: s, Undo: h.command(http.MethodPost, "/shift/undo?route="+url.QueryEscape(s.Route))}
		if points, ok := s.Points(); ok {
			row.Share = shift.FormatPercent(points)
		}
		d.Shifts.Rows = append(d.Shifts.Rows, row)
	}
	clusters := webpage.First(v.Clusters, MaxRows)
	d.Clusters = webpage.List[clusterRow]{Total: clusters.Total}
	for _, c := range clusters.Rows {
		row := clusterRow{Cluster: c}
		if i := slices.IndexFunc(v.Report.Clusters, func(r kube.ClusterReport) bool { return r.Name == c.Name }); i >= 0 {
			row.Report = &v.Report.Clusters[i]
		}
		d.Clusters.Rows = append(d.Clusters.Rows, row)
	}
	for _, warning := range []bool{false, true} { // warnings come last
		for i := range v.Problems {
			switch p := &v.Problems[i]; {
			case p.Warning != warning:
			case p.Object == kube.CertificateObject:
				d.BadFiles.Add(MaxRows, p)
			default:
				d.Problems.Add(MaxRows, p)
			}
		}
	}
	var soon []certs.Record
	for _, c := range v.Report.Certificates {
		if c.NotAfter.Sub(v.Now) < ExpiresSoon {
			soon = append(soon, c)
		}
	}
	slices.SortStableFunc(soon, func(a, b certs.Record) int { return a.NotAfter.Compare(b.NotAfter) })
	d.Certificates, d.Expiring = len(v.Report.Certificates), webpage.First(soon, MaxRows)
}

// losses returns the losses of a change, the largest share first.
func losses(l *deploy.Losses) (list []loss) {
	if l == nil {
		return nil
	}
	for _, x := range []loss{{"hosts", l.Hosts}, {"paths", l.Paths}, {"backends", l.Backends}, {"servers", l.Servers}} {
		if x.Lost > 0 {
			list = append(list, x)
		}
	}
	slices.SortStableFunc(list, func(a, b loss) int { return cmp.Compare(b.Share(), a.Share()) })
	return list
}

// parameter returns a parameter of the query, at most MaxQuery bytes of it.
func parameter(q url.Values, name string) string {
	text := strings.TrimSpace(q.Get(name))
	return strings.ToValidUTF8(text[:min(len(text), MaxQuery)], "")
}

// answerQuery fills the parts of the page that depend on the query, and returns the HTTP status.
func (h *Handler) answerQuery(r *http.Request, d *data) int {
	q := r.URL.Query()
	d.Query, d.Node = parameter(q, "q"), parameter(q, "node")
	d.AllRoutes = len(d.View.Routes)
	d.Routes = findRoutes(d.View.Routes, d.Query)
	host, path, ref := parameter(q, "host"), parameter(q, "path"), parameter(q, "service")
	switch {
	case host != "":
		d.Asked, d.AskedFor = host+cmp.Or(path, "/"), url.Values{"host": {host}, "path": {cmp.Or(path, "/")}}
		target, err := explain.NewTarget(host, path)
		if err != nil {
			d.Trouble = err.Error()
			return http.StatusBadRequest
		}
		return h.explain(r.Context(), d, target, "")
	case ref != "":
		d.Asked, d.AskedFor = ref, url.Values{"service": {ref}}
		route, ok := routeOf(d.View.Routes, ref)
		if !ok {
			d.Trouble = "no route in force names this service"
			return http.StatusNotFound
		}
		return h.explain(r.Context(), d, explain.Target{Host: route.Host, Path: route.Path}, ref)
	}
	return http.StatusOK
}

// explain stores the Explanation of a target in d, and returns the HTTP status. If "ref" is not
// empty, the page shows only the service that "ref" names.
func (h *Handler) explain(ctx context.Context, d *data, target explain.Target, ref string) int {
	if h.Explain == nil {
		d.Trouble = "this page has no explanations"
		return http.StatusNotFound
	}
	e, err := h.Explain(ctx, target)
	if err != nil {
		d.Trouble = err.Error()
		return http.StatusServiceUnavailable
	}
	d.Explanation = &e
	for i := range e.Services {
		s := &e.Services[i]
		if ref != "" && s.Ref.String() != ref {
			continue
		}
		// Put those nodes last that are unused only because other nodes rank better: a large
		// cluster has thousands of them.
		unused := slices.Clone(s.Unused)
		slices.SortStableFunc(unused, func(a, b explain.Node) int { return cmp.Compare(ranked(a), ranked(b)) })
		d.Services = append(d.Services, service{s, findNodes(s.Nodes, d.Node), findNodes(unused, d.Node)})
	}
	return http.StatusOK
}

func ranked(n explain.Node) int {
	if n.Why == nodeselect.Outranked && len(n.Marks) == 0 {
		return 1
	}
	return 0
}

// findNodes returns the nodes whose name, address or zone contains the text.
func findNodes(nodes []explain.Node, text string) (found webpage.List[explain.Node]) {
	if text == "" {
		return webpage.First(nodes, MaxRows)
	}
	for i := range nodes {
		n := &nodes[i]
		if !strings.Contains(n.Node, text) && !strings.Contains(n.Zone, text) && !(n.Addr.IsValid() && strings.Contains(n.Addr.String(), text)) {
			continue
		}
		found.Add(MaxRows, *n)
	}
	return found
}

// findRoutes returns the routes whose name or services contain the text.
func findRoutes(all []routes.Route, text string) (found webpage.List[routes.Route]) {
	if text == "" {
		return webpage.First(all, MaxRows)
	}
	for i := range all {
		if routeMatches(&all[i], text) {
			found.Add(MaxRows, all[i])
		}
	}
	return found
}

func routeMatches(r *routes.Route, text string) bool {
	if strings.Contains(r.Host, text) || strings.Contains(r.Path, text) {
		return true
	}
	for i := range r.Backends {
		b := &r.Backends[i]
		if strings.Contains(b.Service, text) || strings.Contains(b.Namespace, text) || strings.Contains(b.Cluster, text) {
			return true
		}
	}
	if !strings.ContainsAny(text, "/:=") {
		return false
	}
	return strings.Contains(r.Name(), text) || slices.ContainsFunc(r.Backends, func(b routes.Backend) bool { return strings.Contains(b.Ref.String(), text) })
}

// routeOf returns the first route that sends requests to the service with this reference.
func routeOf(all []routes.Route, ref string) (routes.Route, bool) {
	for i := range all {
		for j := range all[i].Backends {
			if b := &all[i].Backends[j]; strings.HasPrefix(ref, b.Cluster) && strings.HasSuffix(ref, b.Port) && b.Ref.String() == ref {
				return all[i], true
			}
		}
	}
	return routes.Route{}, false
}

func connectivityText(c kube.Connectivity) string {
	switch c.State {
	case kube.LastKnown:
		return "does not answer; its last known state is in force"
	case kube.Never:
		return "has never answered"
	}
	return "answers"
}

func reloadText(e journal.Entry) string {
	switch {
	case e.Reload == journal.NoReload:
		return "without a reload"
	case e.Reload != "" && e.ReloadDetail != "":
		return "reload, " + e.Reload + ": " + e.ReloadDetail
	case e.Reload != "":
		return "reload, " + e.Reload
	}
	return ""
}

// reasonText returns why a change was not applied. It leaves out the hint how to allow the change:
// the entry may be old, and then nobody can allow the change any more.
func reasonText(e journal.Entry) string {
	return strings.TrimSuffix(e.Changes.Reason, "; "+e.Allow)
}

func place(p *kube.Problem) string {
	if p.File == "" || p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}

func shareText(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) }

func serviceLink(ref routes.Ref) string {
	return "?" + url.Values{"service": {ref.String()}}.Encode() + "#asked"
}

func targetLink(host, path string) string {
	return "?" + url.Values{"host": {host}, "path": {path}}.Encode() + "#asked"
}
