//go:build linux

package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/examples/e2e/internal/lab"
	"github.com/headgate/headgate/examples/e2e/internal/scenario"
)

const (
	nodegatePort  = 9711
	nodegateToken = "secret-of-nodegate"
)

// serve starts `nodegate serve` on the machine of the terminator, if it does not run.
func (g *gated) serve() error {
	if g.server != nil {
		return ensureRunning(g.server)
	}
	token := filepath.Join(g.env.Lab.Dir("edge"), "nodegate-token")
	if err := os.WriteFile(token, []byte(nodegateToken+"\n"), 0o600); err != nil {
		return err
	}
	var err error
	g.server, err = g.Edge.Start("nodegate", slices.Concat([]string{"nodegate", "serve"}, g.flags, []string{"-listen", g.serveAddr(), "-token-file", token})...)
	return err
}

func (g *gated) serveAddr() string { return netip.AddrPortFrom(g.Edge.Addr, nodegatePort).String() }

// request sends a request to `nodegate serve`.
func (g *gated) request(ctx context.Context, method, path, body string) (status int, answer string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+g.serveAddr()+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+nodegateToken)
	resp, err := g.Client.Client().Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(got), err
}

// wantAnswer sends a request to `nodegate serve`. It returns an error unless the answer has this
// status and contains the text.
func (g *gated) wantAnswer(ctx context.Context, method, path, body string, status int, text string) error {
	got, answer, err := g.request(ctx, method, path, body)
	if err == nil && (got != status || !strings.Contains(answer, text)) {
		err = fmt.Errorf("%s %s: status %d: %s", method, path, got, answer)
	}
	return err
}

// grantBody returns the body of POST /v1/grants.
func grantBody(holder, node string) string {
	data, _ := json.Marshal(map[string]any{"nodes": []string{node}, "holder": holder, "ttl": "10m"})
	return string(data)
}

// takeFromServer requests a grant from `nodegate serve`, again and again, until it gets the grant.
// It also continues while nodegate does not run.
func (g *gated) takeFromServer(ctx context.Context, n *lab.Node) error {
	_, err := lab.Until(ctx, "a grant for "+n.Name, grantPatience, func(ctx context.Context) error {
		return g.wantAnswer(ctx, http.MethodPost, "/v1/grants", grantBody("worker-"+n.Name, n.Name), http.StatusCreated, "")
	}, g.server)
	return err
}

// restart kills `nodegate serve` after a grant and starts it again. It checks that nodegate still
// lists the grant, and refuses another node because of this grant.
func (g *gated) restart(ctx context.Context, t *traffic) error {
	start := time.Now()
	err := g.serve()
	if err != nil {
		return err
	}
	nodes := g.c.Nodes()
	until := func(what, method, path, body string, want int, text string) {
		if err == nil {
			_, err = lab.Until(ctx, what, patience, func(ctx context.Context) error { return g.wantAnswer(ctx, method, path, body, want, text) }, g.server)
		}
	}
	until("a grant", http.MethodPost, "/v1/grants", grantBody("worker", nodes[0].Name), http.StatusCreated, "")
	g.server.Kill()
	if err == nil {
		err = g.server.Start()
	}
	until("nodegate to refuse", http.MethodPost, "/v1/grants", grantBody("worker", nodes[1].Name), http.StatusConflict, "granted to worker")
	until("the grant", http.MethodGet, "/v1/grants", "", http.StatusOK, nodes[0].Name)
	until("the end of the grant", http.MethodDelete, "/v1/grants/"+nodes[0].Name+"?holder=worker", "", http.StatusNoContent, "")
	until("another grant", http.MethodPost, "/v1/grants", grantBody("worker", nodes[1].Name), http.StatusCreated, "")
	until("its end", http.MethodDelete, "/v1/grants/"+nodes[1].Name+"?holder=worker", "", http.StatusNoContent, "")
	return t.row(scenario.Row{What: "nodegate serve is killed and starts again: the grant still counts", Took: time.Since(start), Err: err}, start)
}
