package kubeclient_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/headgate/headgate/internal/kubeclient"
)

// answers starts an API server that gives the same answer to each request, and returns the
// configuration of a client for it. The function "seen" returns the last request as text.
func answers(t *testing.T, code int, body string) (config *rest.Config, seen func() string) {
	t.Helper()
	requests := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		requests <- strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Method, r.URL, r.Header.Get("Content-Type"), sent))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return &rest.Config{Host: server.URL}, func() string { return <-requests }
}

const (
	leaseJSON = `{"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"a","namespace":"ns","resourceVersion":"7"},"spec":{"holderIdentity":"self"}}`
	nodeJSON  = `{"kind":"Node","apiVersion":"v1","metadata":{"name":"worker-7"},"spec":{"unschedulable":true}}`
)

func TestRequestsForLeases(t *testing.T) {
	const path = "/apis/coordination.k8s.io/v1/namespaces/ns/leases"
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "a", ResourceVersion: "6"}}
	uid := types.UID("u")
	for _, test := range []struct {
		name, answer, request string
		call                  func(context.Context, *kubeclient.LeaseClient) (*coordinationv1.Lease, error)
	}{
		{"get", leaseJSON, "GET " + path + "/a", func(ctx context.Context, c *kubeclient.LeaseClient) (*coordinationv1.Lease, error) {
			return c.Get(ctx, "a", metav1.GetOptions{})
		}},
		{"list", `{"kind":"LeaseList","apiVersion":"coordination.k8s.io/v1","items":[` + leaseJSON + `]}`, "GET " + path + "?labelSelector=x%3Dy&limit=500", func(ctx context.Context, c *kubeclient.LeaseClient) (*coordinationv1.Lease, error) {
			list, err := c.List(ctx, metav1.ListOptions{LabelSelector: "x=y", Limit: 500})
			if err != nil || len(list.Items) != 1 {
				return nil, fmt.Errorf("%d items: %w", len(list.Items), err)
			}
			return &list.Items[0], nil
		}},
		{"create", leaseJSON, `POST ` + path + ` application/json {"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"a","resourceVersion":"6"},"spec":{}}`, func(ctx context.Context, c *kubeclient.LeaseClient) (*coordinationv1.Lease, error) {
			return c.Create(ctx, lease, metav1.CreateOptions{})
		}},
		{"update", leaseJSON, `PUT ` + path + `/a application/json {"kind":"Lease","apiVersion":"coordination.k8s.io/v1","metadata":{"name":"a","resourceVersion":"6"},"spec":{}}`, func(ctx context.Context, c *kubeclient.LeaseClient) (*coordinationv1.Lease, error) {
			return c.Update(ctx, lease, metav1.UpdateOptions{})
		}},
		{"delete", `{"kind":"Status","apiVersion":"v1","status":"Success"}`, `DELETE ` + path + `/a application/json {"kind":"DeleteOptions","apiVersion":"coordination.k8s.io/v1","preconditions":{"uid":"u"}}`, func(ctx context.Context, c *kubeclient.LeaseClient) (*coordinationv1.Lease, error) {
			return nil, c.Delete(ctx, "a", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			config, seen := answers(t, http.StatusOK, test.answer)
			config.ContentType = "application/vnd.kubernetes.protobuf" // which a client of Leases does not use
			c, err := kubeclient.NewLeases(config, "ns")
			require.NoError(t, err)
			got, err := test.call(t.Context(), c)
			require.NoError(t, err)
			require.Equal(t, test.request, seen())
			if got != nil {
				require.Equal(t, "7", got.ResourceVersion)
				require.Equal(t, "self", *got.Spec.HolderIdentity)
			}
		})
	}
}

func TestRequestsForNodes(t *testing.T) {
	config, seen := answers(t, http.StatusOK, nodeJSON)
	c, err := kubeclient.NewNodes(config)
	require.NoError(t, err)
	node, err := c.Patch(t.Context(), "worker-7", types.StrategicMergePatchType, []byte(`{"spec":{"unschedulable":true}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	require.Equal(t, `PATCH /api/v1/nodes/worker-7 application/strategic-merge-patch+json {"spec":{"unschedulable":true}}`, seen())
	require.True(t, node.Spec.Unschedulable)

	node, err = c.Get(t.Context(), "worker-7", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "GET /api/v1/nodes/worker-7", seen())
	require.Equal(t, corev1.NodeSpec{Unschedulable: true}, node.Spec)
}

func TestRequestsForPods(t *testing.T) {
	config, seen := answers(t, http.StatusOK, `{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"name":"p"}}]}`)
	c, err := kubeclient.NewPods(config, "ns")
	require.NoError(t, err)
	list, err := c.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Equal(t, "GET /api/v1/namespaces/ns/pods", seen())
	require.Equal(t, "p", list.Items[0].Name)
}

func TestRequestsForConfigMaps(t *testing.T) {
	const object = `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"7"},"data":{"k":"v"}}`
	config, seen := answers(t, http.StatusOK, object)
	c, err := kubeclient.NewConfigMaps(config, "ns")
	require.NoError(t, err)
	got, err := c.Get(t.Context(), "a", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "GET /api/v1/namespaces/ns/configmaps/a", seen())
	require.Equal(t, map[string]string{"k": "v"}, got.Data)
	_, err = c.Update(t.Context(), got, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Equal(t, "PUT /api/v1/namespaces/ns/configmaps/a application/json "+object, seen())
}

// TestErrorsKeepTheirReason: the callers decide by the reason of an error whether another process
// has changed an object.
func TestErrorsKeepTheirReason(t *testing.T) {
	for reason, is := range map[metav1.StatusReason]func(error) bool{
		metav1.StatusReasonConflict: apierrors.IsConflict, metav1.StatusReasonAlreadyExists: apierrors.IsAlreadyExists,
	} {
		config, seen := answers(t, http.StatusConflict, fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":409}`, reason))
		c, err := kubeclient.NewLeases(config, "ns")
		require.NoError(t, err)
		_, err = c.Update(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.UpdateOptions{})
		seen()
		require.True(t, is(err), "%v", err)
	}
}

func TestConfigurationsThatCannotBeUsed(t *testing.T) {
	_, err := kubeclient.NewLeases(&rest.Config{Host: "http://[::1"}, "ns")
	require.ErrorContains(t, err, "kubeclient: ")
	_, err = kubeclient.NewNodes(&rest.Config{Host: "http://[::1"})
	require.ErrorContains(t, err, "kubeclient: ")
	_, err = kubeclient.NewPods(&rest.Config{Host: "http://[::1"}, "ns")
	require.ErrorContains(t, err, "kubeclient: ")
}
