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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
)

// Clients talk to the API groups that are watched here, over one connection.
type Clients struct {
	Core      rest.Interface // core/v1: nodes, services
	Discovery rest.Interface // discovery.k8s.io/v1: endpointslices
}

// codecs know the objects of the two groups and no others: the scheme of client-go's
// clientset holds all of them, which is tens of megabytes of program.
var codecs = func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(discoveryv1.AddToScheme(scheme))
	return serializer.NewCodecFactory(scheme)
}()

// dialTimeout bounds how long an address that does not answer is waited for; the next
// attempt follows soon.
const dialTimeout = 10 * time.Second

// NewClients makes clients of a configuration, which it does not change. It connects to
// nothing yet. They speak protobuf and are not limited in rate, since a client that
// only watches makes no more requests than it is told to by its back-off.
//
// Timeout of the configuration is not used: it would cut off every watch. Each list has
// a deadline of its own.
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
		cfg.WarningHandler = rest.NoWarnings{} // client-go would print them
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

// Count asks how many objects of a resource there are, without fetching more than one
// of them.
func Count(ctx context.Context, client rest.Interface, resource string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := client.Get().Resource(resource).MaxRetries(0).
		VersionedParams(&metav1.ListOptions{Limit: 1}, metav1.ParameterCodec).
		Do(ctx).Get()
	if err != nil {
		return 0, fmt.Errorf("kubewatch: counting %s: %w", resource, reason(err))
	}
	items, remaining, err := lengthOf(list)
	if err != nil {
		return 0, fmt.Errorf("kubewatch: counting %s: %w", resource, err)
	}
	return items + remaining, nil
}

// transportError is where noteErrors leaves the error of a request, if its context asks
// for it.
type transportError struct{ err error }

type transportErrorKey struct{}

// noteErrors leaves the error of a request in its context: client-go makes an empty
// watch of a connection that timed out or broke, and the reason would be lost.
type noteErrors struct{ next http.RoundTripper }

func (n noteErrors) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := n.next.RoundTrip(req)
	if note, ok := req.Context().Value(transportErrorKey{}).(*transportError); ok {
		note.err = err
	}
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport within.
func (n noteErrors) WrappedRoundTripper() http.RoundTripper { return n.next }
