package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/headgate/headgate/internal/exactjson"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/endpoints"
)

// schemaVersion is the value of the member "version" of every answer.
const schemaVersion = 1

// answerJSON is the body of the answers to GET /v1/pods and to GET of a path below it. The package
// documentation describes the members.
type answerJSON struct {
	Version  int             `json:"version"`
	Service  *refJSON        `json:"service,omitempty"`
	Revision string          `json:"revision"`
	Age      int64           `json:"age"`
	Source   sourceJSON      `json:"source"`
	Zones    json.RawMessage `json:"zones,omitempty"`    // a list of zoneJSON
	Services json.RawMessage `json:"services,omitempty"` // a list of podsJSON
}

type podsJSON struct {
	Service  refJSON         `json:"service"`
	Revision string          `json:"revision"`
	Zones    json.RawMessage `json:"zones"` // a list of zoneJSON
}

type refJSON struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Port      string `json:"port,omitempty"`
}

type sourceJSON struct {
	Answers bool   `json:"answers"`
	Error   string `json:"error,omitempty"`
}

type zoneJSON struct {
	Zone string    `json:"zone"`
	Pods []podJSON `json:"pods"`
}

type podJSON struct {
	Address     string `json:"address"`
	Port        uint16 `json:"port"`
	Name        string `json:"name,omitempty"`
	Node        string `json:"node,omitempty"`
	Ready       bool   `json:"ready"`
	Serving     bool   `json:"serving"`
	Terminating bool   `json:"terminating"`
}

func refOf(ref nodeselect.Ref) refJSON { return refJSON{ref.Namespace, ref.Service, ref.Port} }

// answer returns the JSON of a view.
func (v *view) answer(source Source) []byte {
	a := answerJSON{Version: schemaVersion, Revision: v.revision, Age: source.age(), Source: sourceJSON{Answers: source.Err == nil}}
	if source.Err != nil {
		a.Source.Error = source.Err.Error()
	}
	if v.ref == (nodeselect.Ref{}) {
		a.Services = v.body
	} else {
		ref := refOf(v.ref)
		a.Service, a.Zones = &ref, v.body
	}
	return append(marshal(a), '\n')
}

// A FieldError reports which part of a request or of an answer is wrong.
type FieldError struct {
	Field string // such as "wait" or "zones[0].pods[3].address"
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *FieldError) Unwrap() error { return e.Err }

func fieldError(field, format string, args ...any) error {
	return &FieldError{field, fmt.Errorf(format, args...)}
}

// checkRef checks the namespace, the name and the port of ref. It returns an error for the first of
// them that cannot be a part of a URL or of a resource name.
func checkRef(ref nodeselect.Ref) error {
	for _, part := range []struct{ field, value string }{{"namespace", ref.Namespace}, {"service", ref.Service}} {
		if part.value == "" {
			return fieldError(part.field, "missing")
		}
		if err := checkName(part.value); err != nil {
			return &FieldError{part.field, err}
		}
	}
	if err := checkName(ref.Port); ref.Port != "" && err != nil {
		return &FieldError{"port", err}
	}
	return nil
}

// maxName is the largest length of a name in bytes, as for most objects of Kubernetes.
const maxName = 253

// checkName returns an error if name can be neither the name of a Kubernetes object nor the value
// of a label.
func checkName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("%d bytes; at most %d are allowed", len(name), maxName)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return fmt.Errorf("%.80q: want letters, digits, '-', '_' and '.'", name)
		}
	}
	if strings.Trim(name, ".") == "" {
		return fmt.Errorf("%.80q is not a name", name)
	}
	return nil
}

// received is an answer of a server that the client has decoded and found correct.
type received struct {
	revision string
	age      time.Duration
	pods     []endpoints.Pod // sorted by address
}

// receivedZone and receivedPod are parts of a decoded answer. A member that each answer must have
// is a pointer, so that parseAnswer can distinguish a missing member (nil) from false or "".
type (
	receivedZone struct {
		Zone *string       `json:"zone"`
		Pods []receivedPod `json:"pods"`
	}
	receivedPod struct {
		Address     string `json:"address"`
		Port        int64  `json:"port"`
		Name        string `json:"name"`
		Node        string `json:"node"`
		Ready       *bool  `json:"ready"`
		Serving     *bool  `json:"serving"`
		Terminating *bool  `json:"terminating"`
	}
)

// parseAnswer reads and checks the answer of a server to a request for the pods of ref. If anything
// in the answer is wrong, parseAnswer returns an error and no pods.
func parseAnswer(body []byte, ref nodeselect.Ref, maxPods int) (received, error) {
	var (
		version  int
		revision string
		age      *float64
		service  json.RawMessage
		zones    []receivedZone
	)
	err := exactjson.Object(body, exactjson.Fields{"version": &version, "service": &service, "revision": &revision, "age": &age, "zones": &zones})
	switch {
	case err != nil:
		return received{}, err
	case version != schemaVersion:
		return received{}, fieldError("version", "%d; only %d is supported", version, schemaVersion)
	case zones == nil:
		return received{}, fieldError("zones", "missing")
	case age == nil || *age < 0 || *age > math.MaxInt32:
		return received{}, fieldError("age", "want seconds")
	}
	if err := checkRevision(revision); err != nil {
		return received{}, &FieldError{"revision", err}
	}
	if err := checkService(service, ref); err != nil {
		return received{}, err
	}
	r := received{revision: revision, age: time.Duration(*age * float64(time.Second))}
	for i, zone := range zones {
		if r.pods, err = appendZone(r.pods, zone, maxPods); err != nil {
			return received{}, &FieldError{fmt.Sprintf("zones[%d]", i), err}
		}
	}
	slices.SortFunc(r.pods, func(a, b endpoints.Pod) int { return a.Addr.Compare(b.Addr) })
	for i := 1; i < len(r.pods); i++ {
		if r.pods[i].Addr == r.pods[i-1].Addr {
			return received{}, fieldError("zones", "%s comes twice", r.pods[i].Addr)
		}
	}
	return r, nil
}

func checkRevision(revision string) error {
	if revision == "" || len(revision) > 128 {
		return errors.New("want 1 to 128 bytes")
	}
	for i := range len(revision) {
		if revision[i] <= ' ' || revision[i] > '~' || revision[i] == '"' {
			return errors.New("cannot be an ETag")
		}
	}
	return nil
}

// checkService returns an error if raw does not name the service of ref. A proxy may have returned
// an answer that belongs to another request.
func checkService(raw json.RawMessage, ref nodeselect.Ref) error {
	if raw == nil {
		return fieldError("service", "missing")
	}
	var got nodeselect.Ref
	if err := exactjson.Object(raw, exactjson.Fields{"namespace": &got.Namespace, "service": &got.Service, "port": &got.Port}); err != nil {
		return &FieldError{"service", err}
	}
	if got != ref {
		return fieldError("service", "the answer is about %.300q, and the request was about %q", got.String(), ref.String())
	}
	return nil
}

func appendZone(pods []endpoints.Pod, zone receivedZone, maxPods int) ([]endpoints.Pod, error) {
	switch {
	case zone.Zone == nil:
		return nil, fieldError("zone", "missing")
	case zone.Pods == nil:
		return nil, fieldError("pods", "missing")
	case len(pods)+len(zone.Pods) > maxPods:
		return nil, fieldError("pods", "more than %d pods", maxPods)
	}
	if err := checkLabel(*zone.Zone); err != nil {
		return nil, &FieldError{"zone", err}
	}
	for i := range zone.Pods {
		pod, err := zone.Pods[i].check()
		if err != nil {
			return nil, &FieldError{fmt.Sprintf("pods[%d]", i), err}
		}
		pod.Zone = *zone.Zone
		pods = append(pods, pod)
	}
	return pods, nil
}

// check returns the pod without its zone, or an error for the first wrong member.
func (p *receivedPod) check() (endpoints.Pod, error) {
	addr, err := netip.ParseAddr(p.Address)
	switch {
	case err != nil:
		return endpoints.Pod{}, fieldError("address", "%.80q is not an IP address", p.Address)
	case addr.Zone() != "" || addr.Is4In6() || addr.IsUnspecified() || addr.IsMulticast():
		return endpoints.Pod{}, fieldError("address", "%s cannot be the address of a pod", p.Address)
	case p.Port < 1 || p.Port > math.MaxUint16:
		return endpoints.Pod{}, fieldError("port", "want 1 to 65535")
	case p.Ready == nil || p.Serving == nil || p.Terminating == nil:
		return endpoints.Pod{}, fieldError("ready", "ready, serving and terminating are required")
	}
	for _, label := range []struct{ field, value string }{{"name", p.Name}, {"node", p.Node}} {
		if err := checkLabel(label.value); err != nil {
			return endpoints.Pod{}, &FieldError{label.field, err}
		}
	}
	return endpoints.Pod{
		Addr: netip.AddrPortFrom(addr, uint16(p.Port)), Name: p.Name, Node: p.Node,
		Ready: *p.Ready, Serving: *p.Serving, Terminating: *p.Terminating,
	}, nil
}

// checkLabel returns an error if s is neither "" nor a name that checkName accepts.
func checkLabel(s string) error {
	if s == "" {
		return nil
	}
	return checkName(s)
}
