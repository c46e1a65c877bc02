package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/controller/explain"
	"github.com/headgate/headgate/haproxycfg/runtimeapi"
	"github.com/headgate/headgate/nodeselect"
)

var www = explain.Target{Host: "www.example.com", Path: "/a"}

func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eu1 := newFakeCluster()
		c := newController(t, eu1)
		c.ForceHint = func(id string) string { return "force " + id }
		wait := func() { time.Sleep(40 * time.Second); synctest.Wait() }
		get := func() explain.Explanation {
			e, err := c.Explain(t.Context(), www, nil)
			require.NoError(t, err)
			return e
		}
		follow(t, c, func() {
			synctest.Wait()
			_, err := c.Explain(t.Context(), www, nil)
			require.ErrorIs(t, err, controller.ErrNotExplained)

			eu1.set(t, 30080, "10.0.0.1", "10.0.0.2")
			wait()
			e := get()
			require.True(t, e.InForce)
			require.NotEmpty(t, e.Applied.ID)
			require.Equal(t, "eu-1.shop.web.http", e.Backends[0].Name)
			require.Len(t, e.Services[0].Nodes, 2)
			require.Equal(t, "10.0.0.1:30080", e.Services[0].Nodes[0].Servers[0].Name)
			require.Equal(t, "there is no socket of HAProxy", e.HAProxy)

			eu1.set(t, 30090, "10.0.0.2", "10.0.0.3") // Limit refuses the change
			wait()
			e = get()
			require.True(t, e.InForce)
			require.EqualValues(t, 30080, e.Services[0].NodePort)
			require.Equal(t, nodeselect.Gone, e.Services[0].Nodes[0].Why)
			require.Equal(t, nodeselect.Entering, e.Services[0].Unused[0].Why)
			require.Equal(t, "force "+e.Refused.ID, e.Allow)

			e, err = c.Explain(t.Context(), www, func(context.Context) (runtimeapi.Socket, error) {
				return runtimeapi.Socket{}, errors.New("no worker")
			})
			require.NoError(t, err)
			require.Equal(t, "no worker", e.HAProxy)
		})
		// Another process has not applied a configuration, and explains what it wants to apply.
		eu1, was := newFakeCluster(), c.Dir.Path
		c = newController(t, eu1)
		c.Dir.Path = was
		follow(t, c, func() {
			eu1.set(t, 30090, "10.0.0.2", "10.0.0.3")
			wait()
			e := get()
			require.False(t, e.InForce)
			require.EqualValues(t, 30090, e.Services[0].NodePort)
			require.NotNil(t, e.Refused)
		})
		c = newController(t, newFakeCluster())
		c.Elector = followerElector{}
		follow(t, c, func() {
			wait()
			_, err := c.Explain(t.Context(), www, nil)
			require.ErrorIs(t, err, controller.ErrNotLeading)
			require.ErrorContains(t, err, "other")
		})
	})
}

func TestExplainChange(t *testing.T) {
	eu1 := newFakeCluster()
	c := newController(t, eu1)
	for _, inForce := range []bool{false, true} {
		eu1.set(t, 30080, "10.0.0.1")
		change, err := c.Plan(t.Context(), "test")
		require.NoError(t, err)
		e, err := c.ExplainChange(t.Context(), change, www, nil)
		require.NoError(t, err)
		require.Equal(t, inForce, e.InForce, e.Notes)
		require.Len(t, e.Services[0].Nodes, 1)
		_, err = c.Apply(t.Context(), change)
		require.NoError(t, err)
	}
}

func TestExplainHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eu1 := newFakeCluster()
		c := newController(t, eu1)
		get := func(query string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			c.ExplainHandler(nil).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/explain?"+query, nil))
			return w
		}
		follow(t, c, func() {
			synctest.Wait()
			require.Equal(t, http.StatusServiceUnavailable, get("host=www.example.com").Code)
			eu1.set(t, 30080, "10.0.0.1")
			time.Sleep(10 * time.Second)
			synctest.Wait()
			w := get("host=WWW.example.com.:80")
			require.Equal(t, http.StatusOK, w.Code)
			require.Contains(t, w.Body.String(), "www.example.com/\n  route: www.example.com/, declared at routes.yaml:2, protocol http1\n  in force: yes, configuration ")
			w = get("host=www.example.com&path=/x&format=json")
			var e explain.Explanation
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
			require.Equal(t, "/x", e.Path)
			require.True(t, e.InForce)
			for _, query := range []string{"", "host=", "host=10.0.0.1", "host=www.example.com&path=x", "host=www.example.com&format=xml"} {
				require.Equal(t, http.StatusBadRequest, get(query).Code, query)
			}
		})
	})
}
