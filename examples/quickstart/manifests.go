package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/headgate/headgate/internal/atomicfile"
	"github.com/headgate/headgate/nodeselect"
	"github.com/headgate/headgate/nodeselect/manifest"
)

//go:embed system
var embedded embed.FS

// clusterNames are the directories in system/.
var clusterNames = []string{"eu-1", "eu-2"}

// manifests are the nodes and services of one cluster. A change of an object rewrites the file that
// contains them. The agents and the Controller read this file.
type manifests struct {
	file    string
	objects nodeselect.Objects
}

// readEmbedded reads a file of system/. In all addresses 127.0.x.y of the file, it replaces the
// second byte by the argument "network".
func readEmbedded(name string, network int) ([]byte, error) {
	data, err := embedded.ReadFile("system/" + name)
	return bytes.ReplaceAll(data, []byte("127.0."), fmt.Appendf(nil, "127.%d.", network)), err
}

func newManifests(dir, cluster string, network int) (*manifests, error) {
	data, err := readEmbedded(cluster+"/objects.yaml", network)
	if err != nil {
		return nil, err
	}
	objects, problems := manifest.Parse(cluster, data)
	for _, p := range problems {
		return nil, p
	}
	objects = nodeselect.NewObjects(objects.Nodes, append(slices.Clone(objects.Services), radio(cluster)))
	if err := os.MkdirAll(filepath.Join(dir, cluster), 0o755); err != nil {
		return nil, err
	}
	m := &manifests{filepath.Join(dir, cluster, "objects.yaml"), objects}
	return m, m.write()
}

// shiftRoute is a route whose requests the scenario shifts from eu-1 to eu-2.
const shiftRoute = `- host: radio.example.com
  shift: true
  backends:
  - {cluster: eu-1, namespace: media, service: radio, port: http}
  - {cluster: eu-2, namespace: media, service: radio, port: http, weight: 0}
`

// nearestRoute is a route that prefers eu-1 for clients of the region in regionsFile.
const nearestRoute = `- host: nearest.example.com
  backends:
  - {cluster: eu-1, namespace: media, service: radio, port: http}
  - {cluster: eu-2, namespace: media, service: radio, port: http}
  prefer:
  - {region: here, clusters: [eu-1, eu-2]}
`

// regionsFile is the content of the file of regions. All clients of quickstart are in its region.
const regionsFile = "regions: [{name: here, networks: [127.0.0.0/8]}]\n"

// radio returns the service of shiftRoute and nearestRoute in a cluster.
func radio(cluster string) *corev1.Service {
	s := &corev1.Service{}
	s.APIVersion, s.Kind = "v1", "Service"
	s.Namespace, s.Name = "media", "radio"
	s.Spec.Type = corev1.ServiceTypeNodePort
	s.Spec.Ports = []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30100 + int32(slices.Index(clusterNames, cluster))}}
	return s
}

func (m *manifests) dir() string { return filepath.Dir(m.file) }

func (m *manifests) write() error {
	var text bytes.Buffer
	add := func(object any) error {
		data, err := yaml.Marshal(object)
		text.WriteString("---\n")
		text.Write(data)
		return err
	}
	for _, n := range m.objects.Nodes {
		if err := add(n); err != nil {
			return err
		}
	}
	for _, s := range m.objects.Services {
		if err := add(s); err != nil {
			return err
		}
	}
	_, err := atomicfile.Update(m.file, text.Bytes(), 0o644)
	return err
}

// cordon cordons or uncordons a node, as kubectl does.
func (m *manifests) cordon(node string, cordoned bool) error {
	n := m.objects.Node(node)
	if n == nil {
		return errors.New("no node " + node)
	}
	n.Spec.Unschedulable = cordoned
	return m.write()
}

// annotate sets an annotation of a service, as kubectl does.
func (m *manifests) annotate(namespace, service, key, value string) error {
	s := m.objects.Service(namespace, service)
	if s == nil {
		return errors.New("no service " + namespace + "/" + service)
	}
	s.Annotations[key] = value
	return m.write()
}

// replace removes a node, whose name is the argument "old", and adds a node with another name and
// address. The added node is schedulable, and its hostname label is its name. Otherwise it equals
// the removed node.
func (m *manifests) replace(old, name, addr string) error {
	nodes := make([]*corev1.Node, 0, len(m.objects.Nodes))
	for _, n := range m.objects.Nodes {
		if n.Name == old {
			n = n.DeepCopy()
			n.Name, n.Labels[corev1.LabelHostname] = name, name
			n.Spec.Unschedulable = false
			n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addr}}
		}
		nodes = append(nodes, n)
	}
	m.objects = nodeselect.NewObjects(nodes, m.objects.Services)
	return m.write()
}

// addrOf returns the address of a node.
func addrOf(n *corev1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}

// withLastByte replaces the last byte of an IPv4 address.
func withLastByte(addr, last string) string {
	return addr[:strings.LastIndexByte(addr, '.')+1] + last
}
