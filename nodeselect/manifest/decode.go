package manifest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kjson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/headgate/headgate/nodeselect"
)

// metaDoc, nodeDoc, serviceDoc and sliceDoc have the fields of the objects that Parse returns. In
// all other fields, the decoder checks only the syntax. This saves time: managed fields and images
// are two thirds of a node's text.
type metaDoc struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	UID               types.UID         `json:"uid"`
	ResourceVersion   string            `json:"resourceVersion"`
	Generation        int64             `json:"generation"`
	CreationTimestamp metav1.Time       `json:"creationTimestamp"`
	DeletionTimestamp *metav1.Time      `json:"deletionTimestamp"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
}

type nodeDoc struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Metadata   metaDoc         `json:"metadata"`
	Spec       corev1.NodeSpec `json:"spec"`
	Status     struct {
		Conditions []corev1.NodeCondition `json:"conditions"`
		Addresses  []corev1.NodeAddress   `json:"addresses"`
	} `json:"status"`
}

type serviceDoc struct {
	APIVersion string             `json:"apiVersion"`
	Kind       string             `json:"kind"`
	Metadata   metaDoc            `json:"metadata"`
	Spec       corev1.ServiceSpec `json:"spec"`
}

type sliceDoc struct {
	APIVersion  string                     `json:"apiVersion"`
	Kind        string                     `json:"kind"`
	Metadata    metaDoc                    `json:"metadata"`
	AddressType discoveryv1.AddressType    `json:"addressType"`
	Endpoints   []discoveryv1.Endpoint     `json:"endpoints"`
	Ports       []discoveryv1.EndpointPort `json:"ports"`
}

// wanted says which objects a caller wants. The package counts all other objects, and does not
// decode them.
type wanted uint8

const (
	nodesAndServices wanted = iota
	endpointSlices
)

// The method "has" reports whether the caller wants the objects of a kind. It compares apiVersion
// too: other API groups also have kinds named Node or Service.
func (w wanted) has(apiVersion, kind string) bool {
	if w == endpointSlices {
		return apiVersion == "discovery.k8s.io/v1" && kind == "EndpointSlice"
	}
	return apiVersion == "v1" && (kind == "Node" || kind == "Service")
}

// headDoc holds those fields of a JSON object that say how to decode the rest: its type, and the
// items of a list. An object with the field "items" is a list.
type headDoc struct {
	APIVersion, Kind string
	Items            value // text is nil if the object has no items
}

func (m *metaDoc) objectMeta() metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID,
		ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
		Labels: m.Labels, Annotations: m.Annotations,
	}
}

// itemKind returns the apiVersion and kind of the list's items. Use them for an item without its
// own apiVersion and kind: the API omits both in a NodeList or ServiceList.
func (h headDoc) itemKind() (apiVersion, kind string) {
	kind = strings.TrimSuffix(h.Kind, "List")
	if kind == "" {
		return "", ""
	}
	return h.APIVersion, kind
}

// object is a decoded object, and the place in the file from which it was read. Exactly one of the
// fields "node", "service" and "slice" is not nil.
type object struct {
	node    *corev1.Node
	service *corev1.Service
	slice   *discoveryv1.EndpointSlice
	file    string
	line    int
}

// key returns the name of the object as the field Problem.Object contains it, such as "Service
// media/tracks".
func (o object) key() string {
	switch {
	case o.node != nil:
		return "Node " + o.node.Name
	case o.slice != nil:
		return "EndpointSlice " + o.slice.Namespace + "/" + o.slice.Name
	}
	return "Service " + o.service.Namespace + "/" + o.service.Name
}

// batch contains the objects and problems that were found in a text.
type batch struct {
	want     wanted
	objects  []object
	problems []nodeselect.Problem
	ignored  int
	usable   int // objects of the kinds that this package reads, whether wanted or not
}

func newBatches(n int, want wanted) []batch {
	list := make([]batch, n)
	for i := range list {
		list[i].want = want
	}
	return list
}

func (b *batch) add(other batch) {
	b.objects = append(b.objects, other.objects...)
	b.problems = append(b.problems, other.problems...)
	b.ignored += other.ignored
	b.usable += other.usable
}

// bad adds a problem.
func (b *batch) bad(line int, message string) {
	b.problems = append(b.problems, nodeselect.Problem{Line: line, Message: message})
}

// decodeObject reads one JSON object that is not a list itself. The arguments apiVersion and kind
// are those of the object. If the object is an item of a list and has neither field, the caller
// derives both arguments from the list.
func (b *batch) decodeObject(data []byte, line int, apiVersion, kind string) {
	if !b.want.has(apiVersion, kind) {
		if !json.Valid(data) {
			b.bad(line, syntaxMessage(data))
			return
		}
		b.ignored++
		if nodesAndServices.has(apiVersion, kind) || endpointSlices.has(apiVersion, kind) {
			b.usable++
		} else if message := misfit(data, apiVersion, kind); message != "" {
			b.bad(line, message)
		}
		return
	}
	b.usable++
	o := object{line: line}
	meta, err := o.decode(data, metav1.TypeMeta{APIVersion: apiVersion, Kind: kind})
	problem := nodeselect.Problem{Line: line}
	namespace := meta.Namespace
	if isName(meta.Name) && isName(namespace) { // an invalid name may contain line breaks
		problem.Object = o.key()
	}
	switch {
	case err != nil:
		problem.Field, problem.Message = decodeError(data, err)
	case meta.Name == "":
		problem.Field, problem.Message = "metadata.name", kind+" without a name"
	case !isName(meta.Name):
		problem.Field, problem.Message = "metadata.name", notAName(meta.Name)
	case !isName(namespace):
		problem.Field, problem.Message = "metadata.namespace", notAName(namespace)
	default:
		b.objects = append(b.objects, o)
		return
	}
	b.problems = append(b.problems, problem)
}

// decode sets the field "node", "service" or "slice" of o by the kind of the object, and returns
// its metadata. The namespace is never empty; for a Node, it is "default" and has no meaning.
func (o *object) decode(data []byte, kind metav1.TypeMeta) (metaDoc, error) {
	var meta *metaDoc
	var err error
	switch kind.Kind {
	case "Node":
		var doc nodeDoc
		err = kjson.Unmarshal(data, &doc)
		meta = &doc.Metadata
		meta.Namespace = ""
		o.node = &corev1.Node{
			TypeMeta: kind, ObjectMeta: meta.objectMeta(),
			Spec:   doc.Spec,
			Status: corev1.NodeStatus{Conditions: doc.Status.Conditions, Addresses: doc.Status.Addresses},
		}
		meta.Namespace = metav1.NamespaceDefault
	case "Service":
		var doc serviceDoc
		err = kjson.Unmarshal(data, &doc)
		meta = &doc.Metadata
		meta.Namespace = cmp.Or(meta.Namespace, metav1.NamespaceDefault)
		o.service = &corev1.Service{TypeMeta: kind, ObjectMeta: meta.objectMeta(), Spec: doc.Spec}
	default:
		var doc sliceDoc
		err = kjson.Unmarshal(data, &doc)
		meta = &doc.Metadata
		meta.Namespace = cmp.Or(meta.Namespace, metav1.NamespaceDefault)
		o.slice = &discoveryv1.EndpointSlice{
			TypeMeta: kind, ObjectMeta: meta.objectMeta(), AddressType: doc.AddressType, Endpoints: doc.Endpoints, Ports: doc.Ports,
		}
	}
	return *meta, err
}

func isName(s string) bool { return len(validation.IsDNS1123Subdomain(s)) == 0 }

func notAName(s string) string { return fmt.Sprintf("%.80q is not a valid name in Kubernetes", s) }

// decodeError converts an error of the JSON decoder to a message, and to the name of the field with
// the mistake. The name is "" if it is unknown.
func decodeError(data []byte, err error) (field, message string) {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		want := goTypeWords(wrongType.Type.String())
		if wrongType.Type.Kind() == reflect.Struct {
			want = "a mapping"
		}
		return wrongType.Field, "want " + want + ", got " + wrongType.Value
	}
	if !json.Valid(data) {
		return "", syntaxMessage(data)
	}
	return "", oneLine(err.Error())
}

// goTypeWords describes a Go type in words for users of YAML.
func goTypeWords(t string) string {
	switch {
	case strings.HasPrefix(t, "int"), strings.HasPrefix(t, "uint"), strings.HasPrefix(t, "*int"):
		return "an integer"
	case t == "bool", t == "*bool":
		return "true or false"
	case strings.HasPrefix(t, "map["), strings.HasSuffix(t, "Doc"), strings.HasPrefix(t, "struct"):
		return "a mapping"
	case strings.HasPrefix(t, "[]"):
		return "a list"
	}
	return "a string"
}

func syntaxMessage(data []byte) string {
	var v json.RawMessage
	if err := json.Unmarshal(data, &v); err != nil {
		return oneLine(err.Error())
	}
	return "not JSON"
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
