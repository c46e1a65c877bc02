package controller_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/headgate/headgate/haproxycfg/controller"
	"github.com/headgate/headgate/haproxycfg/kube"
)

// TestReportHandler: the handler serves the report only while the report describes what HAProxy
// runs, and names the configuration in force.
func TestReportHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eu1 := newFakeCluster()
		c := newController(t, eu1)
		var reload atomic.Pointer[error] // nil blocks a reload for an hour
		ok := error(nil)
		reload.Store(&ok)
		c.Dir.Reload = func(context.Context) error {
			if err := reload.Load(); err != nil {
				return *err
			}
			time.Sleep(time.Hour)
			return nil
		}
		get := func() (int, string, kube.Report) {
			w := httptest.NewRecorder()
			c.ReportHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/report.json", nil))
			var r kube.Report
			if w.Code == http.StatusOK {
				require.NoError(t, json.Unmarshal(w.Body.Bytes(), &r))
			}
			return w.Code, w.Body.String(), r
		}
		wait := func() { time.Sleep(10 * time.Second); synctest.Wait() }
		code, text, _ := get()
		require.Equal(t, http.StatusServiceUnavailable, code, text)
		follow(t, c, func() {
			eu1.set(t, 30080, "10.0.0.1", "10.0.0.2")
			wait()
			_, text, first := get()
			require.NotNil(t, first.Applied, text)
			require.NotEmpty(t, first.Applied.ID)
			require.Equal(t, first.Changes.Time, first.Applied.Time)

			eu1.set(t, 30090, "10.0.0.1", "10.0.0.2") // Limit refuses the change
			wait()
			code, _, r := get()
			require.Equal(t, http.StatusOK, code)
			require.Equal(t, first.Applied, r.Applied)
			require.NotEqual(t, r.Applied.ID, r.Refused.ID)
			require.EqualValues(t, 30080, r.Services[0].NodePort)

			reload.Store(nil)
			eu1.set(t, 30080, "10.0.0.1", "10.0.0.3", "10.0.0.2")
			wait()
			code, text, _ = get()
			require.Equal(t, http.StatusServiceUnavailable, code)
			require.Contains(t, text, "a change is being applied")
			time.Sleep(time.Hour)
			synctest.Wait()
			_, _, second := get()
			require.Len(t, second.Services[0].Nodes, 3)
			require.NotEqual(t, first.Applied.ID, second.Applied.ID)
			require.True(t, second.Applied.Time.After(first.Applied.Time))

			no := errors.New("no")
			reload.Store(&no)
			eu1.set(t, 30080, "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
			wait()
			code, text, _ = get()
			require.Equal(t, http.StatusServiceUnavailable, code)
			require.Contains(t, text, "applied in part")
			reload.Store(&ok)
			time.Sleep(time.Hour)
			synctest.Wait()
			code, _, _ = get()
			require.Equal(t, http.StatusOK, code)
		})
	})
}

func TestReportHandlerOfAFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eu1 := newFakeCluster()
		c := newController(t, eu1)
		c.Elector = followerElector{}
		follow(t, c, func() {
			eu1.set(t, 30080, "10.0.0.1")
			time.Sleep(20 * time.Second)
			synctest.Wait()
			w := httptest.NewRecorder()
			c.ReportHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/report.json", nil))
			require.Equal(t, http.StatusServiceUnavailable, w.Code)
			require.Contains(t, w.Body.String(), "another process leads: other")
		})
	})
}

// followerElector is an Elector that never makes this process the leader.
type followerElector struct{}

func (followerElector) Run(ctx context.Context, _ func(controller.Term), leader func(string, bool)) {
	leader("other", false)
	<-ctx.Done()
}
