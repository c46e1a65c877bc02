package kubewatch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
)

// Clients has a client for each of the two API groups that are watched. The two clients share one
// connection.
type Clients struct {
	Core      rest.Interface // core/v1: nodes, services
	Discovery rest.Interface // discovery.k8s.io/v1: endpointslices
}

// codecs decodes only the objects of the API groups core and discovery.k8s.io. With the scheme of
// client-go's clientset, which decodes the objects of all groups, a program would be tens of
// megabytes larger.
var codecs = func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(discoveryv1.AddToScheme(scheme))
	return serializer.NewCodecFactory(scheme)
}()

// dialTimeout is how long an attempt to connect may take. After a failure, another attempt follows
// soon.
const dialTimeout = 10 * time.Second

// NewClients returns clients for a copy of cfg, without connecting yet. They use protobuf, and have
// no rate limit, because the back-off of Source already limits the requests.
//
// NewClients ignores cfg.Timeout, which would end every watch. Lists have their own timeout.
func NewClients(cfg *rest.Config) (Clients, error) {
	if cfg == nil {
		return Clients{}, errors.New("kubewatch: no configuration")
	}
	cfg = rest.CopyConfig(cfg)
	cfg.Timeout = 0
	cfg.QPS, cfg.Burst, cfg.RateLimiter = -1, 0, nil
	cfg.ContentType = runtime.ContentTypeProtobuf
	cfg.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	cfg.NegotiatedSerializer = codecs.WithoutConversion()
	if cfg.UserAgent == "" {
		cfg.UserAgent = "headgate/" + filepath.Base(os.Args[0])
	}
	if cfg.WarningHandler == nil && cfg.WarningHandlerWithContext == nil {
		cfg.WarningHandler = rest.NoWarnings{} // the default prints warnings
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext
	}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return noteErrors{next} })
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return Clients{}, fmt.Errorf("kubewatch: %w", err)
	}
	client := func(apiPath string, group schema.GroupVersion) (rest.Interface, error) {
		c := rest.CopyConfig(cfg)
		c.APIPath, c.GroupVersion = apiPath, &group
		return rest.RESTClientForConfigAndClient(c, httpClient)
	}
	var clients Clients
	if clients.Core, err = client("/api", corev1.SchemeGroupVersion); err != nil {
		return Clients{}, fmt.Errorf("kubewatch: %w", err)
	}
	if clients.Discovery, err = client("/apis", discoveryv1.SchemeGroupVersion); err != nil {
		return Clients{}, fmt.Errorf("kubewatch: %w", err)
	}
	return clients, nil
}

// Count returns the number of objects of a resource. It asks the server for one object. The answer
// contains this object, and the number of all other objects.
func Count(ctx context.Context, client rest.Interface, resource string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := client.Get().Resource(resource).MaxRetries(0).
		VersionedParams(&metav1.ListOptions{Limit: 1}, metav1.ParameterCodec).
		Do(ctx).Get()
	if err != nil {
		return 0, fmt.Errorf("kubewatch: counting %s: %w", resource, reason(err))
	}
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		return 0, fmt.Errorf("kubewatch: counting %s: %w", resource, err)
	}
	n := meta.LenList(list)
	if remaining := accessor.GetRemainingItemCount(); remaining != nil {
		n += int(*remaining)
	}
	return n, nil
}

// transportError holds the error of a request. The caller puts a *transportError into the context
// of the request, and noteErrors stores the error in it.
type transportError struct{ err error }

type transportErrorKey struct{}

// noteErrors stores the error of a request in the transportError of the request's context. Without
// noteErrors, the reason of a failed watch would be lost: after a broken connection or a timeout,
// client-go returns an empty watch and no error.
type noteErrors struct{ next http.RoundTripper }

func (n noteErrors) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := n.next.RoundTrip(req)
	if note, ok := req.Context().Value(transportErrorKey{}).(*transportError); ok {
		note.err = err
	}
	return resp, err
}

// WrappedRoundTripper returns the inner transport, for client-go.
func (n noteErrors) WrappedRoundTripper() http.RoundTripper { return n.next }
