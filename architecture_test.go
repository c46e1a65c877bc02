// Package headgate_test holds the rules that keep the packages independent of each other, so that a
// program that imports one package does not compile the other packages.
package headgate_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/headgate/headgate"

// directImports lists, for each package, the imports that it may have besides the standard library,
// with the reason for each import. A package that is missing here may import only the standard
// library.
var directImports = map[string]map[string]string{
	"hashring": {
		"github.com/cespare/xxhash/v2": "the hash that score v1 is frozen on",
	},
	"agentcheck": {
		module + "/internal/netserve": "accepting and draining connections",
	},
	"agentcheck/drain": {
		module + "/agentcheck": "the answer to agent checks during a drain",
	},
	"nodeselect": {
		module + "/hashring":             "the choice of nodes",
		module + "/internal/specialaddr": "addresses that a node must not have",
		"k8s.io/api":                     "the objects of a cluster",
		"k8s.io/apimachinery":            "their metadata",
	},
	"nodeselect/unevenness": {},
	"nodeselect/disruption": {
		module + "/nodeselect": "the subsets of nodes",
	},
	"nodeselect/disruption/gate": {
		module + "/nodeselect":                    "the subsets of nodes",
		module + "/nodeselect/disruption":         "the limits",
		module + "/nodeselect/disruption/picture": "the picture of its state",
	},
	"nodeselect/disruption/gate/keeper": {
		module + "/agentcheck":                         "asking whether the agent of a node answers up",
		module + "/agentcheck/nodeagent":               "the signals that drain a node",
		module + "/internal/apiclient":                 "reports are read within limits",
		module + "/internal/bearer":                    "the token of a request",
		module + "/internal/inputfile":                 "reports are read within limits",
		module + "/internal/kubeclient":                "the client of nodes",
		module + "/internal/webpage":                   "the look of its page",
		module + "/nodeselect":                         "the address of a node",
		module + "/nodeselect/disruption":              "the limits",
		module + "/nodeselect/disruption/gate":         "the decision",
		module + "/nodeselect/disruption/gate/leases":  "where grants are stored",
		module + "/nodeselect/disruption/gate/protect": "what a tool may take away",
		"golang.org/x/sync":                            "reports are read at the same time",
		"k8s.io/api":                                   "nodes",
		"k8s.io/apimachinery":                          "their metadata",
		"k8s.io/client-go":                             "how to reach an API server",
	},
	"nodeselect/disruption/gate/leases": {
		module + "/internal/kubeclient":        "the client of Leases",
		module + "/nodeselect/disruption/gate": "the grants that it stores",
		"k8s.io/api":                           "Leases",
		"k8s.io/apimachinery":                  "their metadata, and conflicts",
		"k8s.io/client-go":                     "how to reach an API server",
	},
	"nodeselect/disruption/gate/protect": {
		module + "/nodeselect/disruption/gate": "the grants that it reads",
	},
	"nodeselect/disruption/gate/protector": {
		module + "/internal/kubeclient":                "the client of pods",
		module + "/nodeselect/disruption/gate/keeper":  "the decision, and the grants",
		module + "/nodeselect/disruption/gate/protect": "what to protect and what to free",
		"golang.org/x/sync":                            "objects are changed at the same time",
		"k8s.io/api":                                   "nodes and pods",
		"k8s.io/apimachinery":                          "their metadata, and errors of an API server",
		"k8s.io/client-go":                             "how to reach an API server, and the client of Machines",
	},
	"internal/fleettest": {
		module + "/hashring":              "the choice of nodes",
		module + "/internal/manifesttest": "names and addresses of nodes",
		module + "/nodeselect":            "the subsets that it makes",
		module + "/nodeselect/disruption": "the waves in which it replaces nodes",
	},
	"nodeselect/disruption/picture": {
		module + "/nodeselect":            "the subsets that it draws",
		module + "/nodeselect/disruption": "the limits that block",
	},
	"nodeselect/endpoints": {
		module + "/nodeselect":                "the policy for addresses, references and problems",
		module + "/nodeselect/internal/doubt": "the rule for lists that lack most endpoints",
		"k8s.io/api":                          "EndpointSlices",
		"k8s.io/apimachinery":                 "the order of resource versions",
	},
	"nodeselect/kubeapp": {
		module + "/nodeselect": "the annotations of a Service",
		"k8s.io/api":           "the objects that it makes",
		"k8s.io/apimachinery":  "their metadata, and the rules for names",
		"sigs.k8s.io/yaml":     "printing them as kubectl does",
	},
	"nodeselect/kubeapp/change": {
		module + "/nodeselect": "the name of a service port, and problems of manifests",
		"k8s.io/api":           "the objects that it compares",
		"k8s.io/apimachinery":  "their labels, and their JSON",
		"sigs.k8s.io/yaml":     "manifests with the tags of those types",
	},
	"nodeselect/kubeapp/apply": {
		module + "/nodeselect/kubeapp":        "the objects that it applies",
		module + "/nodeselect/kubeapp/change": "the objects that it reads",
		"k8s.io/api":                          "Services and Deployments",
		"k8s.io/apimachinery":                 "their metadata, and conflicts",
		"k8s.io/client-go":                    "how to reach an API server, and a client of all kinds",
	},
	"nodeselect/manifest": {
		module + "/internal/inputfile": "manifests are read within limits",
		module + "/internal/filewatch": "manifests are read again when they change",
		module + "/nodeselect":         "the objects and problems it returns",
		"k8s.io/api":                   "the objects of a cluster",
		"k8s.io/apimachinery":          "their metadata, names and JSON",
		"sigs.k8s.io/yaml":             "manifests with the tags of those types",
	},
	"nodeselect/live": {
		module + "/internal/debounce":         "a burst of events is one change",
		module + "/internal/kubewatch":        "lists and watches of an API server",
		module + "/nodeselect":                "the selection it keeps up to date",
		"k8s.io/api":                          "the objects of a cluster",
		"k8s.io/apimachinery":                 "errors of an API server",
		"k8s.io/client-go":                    "how to reach an API server",
		module + "/nodeselect/endpoints":      "the pods that a watcher of EndpointSlices keeps",
		module + "/nodeselect/internal/doubt": "the rule for lists that lack most objects",
	},
	"agentcheck/nodeagent": {
		module + "/internal/inputfile": "looking for a drain file never blocks",
		module + "/agentcheck":         "the answers it makes",
		module + "/internal/debounce":  "one State for a burst of changes",
		module + "/internal/filewatch": "drain files on the node are followed",
		module + "/internal/kubewatch": "live clusters are followed",
		module + "/nodeselect":         "the annotations and objects it makes them from",
		"k8s.io/api":                   "the objects of a cluster",
		"k8s.io/apimachinery":          "their metadata",
		"k8s.io/client-go":             "how to reach an API server",
	},
	"haproxycfg/certs": {
		module + "/haproxycfg": "the certificates that it lists",
	},
	"haproxycfg/certfiles": {
		module + "/haproxycfg":         "the certificates that a check receives",
		module + "/haproxycfg/certs":   "the format of the files",
		module + "/internal/filewatch": "files of certificates are followed",
		module + "/internal/inputfile": "files of certificates are read within limits",
	},
	"haproxycfg/edge": {
		module + "/haproxycfg":        "the configuration it makes",
		module + "/haproxycfg/routes": "what is declared",
	},
	"haproxycfg/deploy": {
		module + "/internal/inputfile":    "the files in force are read within limits",
		module + "/haproxycfg":            "the configuration it puts into force",
		module + "/haproxycfg/runtimeapi": "reloads, and the state of servers before them",
		module + "/internal/atomicfile":   "a configuration is replaced whole or not at all",
		module + "/internal/filelock":     "one process at a time changes a directory",
		module + "/internal/textdiff":     "the text of a difference",
		module + "/internal/haproxymsg":   "the messages of haproxy -c",
	},
	"haproxycfg/frontproxy": {
		module + "/haproxycfg": "the configuration it makes",
	},
	"haproxycfg/frontproxy/policy": {
		module + "/haproxycfg":            "the settings name its types",
		module + "/haproxycfg/frontproxy": "the settings it reads",
		module + "/internal/inputfile":    "files are read within limits",
		"go.yaml.in/yaml/v3":              "errors that name the line",
	},
	"haproxycfg/shift": {},
	"haproxycfg/internal/configtest": {
		module + "/haproxycfg":                       "the configuration that it checks",
		module + "/internal/haproxyproc/haproxytest": "a real HAProxy accepts the golden files",
		module + "/internal/testcert":                "certificates for HAProxy",
		"github.com/stretchr/testify":                "its checks",
	},
	"haproxycfg": {
		module + "/internal/dotsegment": "the paths that HAProxy refuses",
	},
	"haproxycfg/routes": {
		module + "/internal/dotsegment": "the paths that HAProxy refuses",
		module + "/internal/hostname":   "the normal form of a declared host",
		"go.yaml.in/yaml/v3":            "errors that name the line",
	},
	"haproxycfg/routefiles": {
		module + "/internal/inputfile": "files are read within limits",
		module + "/haproxycfg/routes":  "the format of the files",
		module + "/internal/filewatch": "files are read again when they change",
	},
	"haproxycfg/hostcluster": {
		module + "/haproxycfg/routes": "what is declared",
		module + "/nodeselect":        "services and their annotations",
		"k8s.io/api":                  "the service that is annotated",
	},
	"haproxycfg/kube": {
		module + "/haproxycfg":        "the configuration it makes",
		module + "/haproxycfg/certs":  "the report lists certificates",
		module + "/haproxycfg/deploy": "how many servers a change affects",
		module + "/haproxycfg/edge":   "routes and upstreams become the configuration",
		module + "/haproxycfg/routes": "what is declared",
		module + "/nodeselect":        "the nodes it chooses from",
		"k8s.io/api":                  "the objects whose changes are causes",
	},
	"haproxycfg/supervisor": {
		module + "/haproxycfg/runtimeapi": "the address of HAProxy's master",
		module + "/internal/atomicfile":   "a state file is replaced as a whole",
		module + "/internal/filelock":     "one Supervisor at a time uses a directory",
		module + "/internal/haproxymsg":   "the messages of HAProxy",
		module + "/internal/haproxyproc":  "the process that it supervises",
		module + "/internal/inputfile":    "the limit of open files is read within limits",
	},
	"haproxycfg/frontproxy/controller": {
		module + "/haproxycfg":                   "the version and the configuration of HAProxy",
		module + "/haproxycfg/deploy":            "the directory that it writes to",
		module + "/haproxycfg/frontproxy":        "pods and settings to a configuration",
		module + "/haproxycfg/runtimeapi":        "HAProxy's counters, and the switch of the retry budget",
		module + "/internal/atomicfile":          "the last good policy is replaced as a whole",
		module + "/internal/filewatch":           "the policy file is read again when it changes",
		module + "/internal/inputfile":           "the policy file is read within limits",
		module + "/nodeselect":                   "the name of a service",
		module + "/nodeselect/endpoints":         "the pods of a service",
		module + "/nodeselect/endpoints/httpapi": "pods from the discovery API",
		module + "/nodeselect/manifest":          "pods from files",
		"golang.org/x/sync":                      "goroutines that end together",
		"k8s.io/api":                             "the EndpointSlices in files",
	},
	"haproxycfg/controller": {
		module + "/internal/inputfile":               "the report is read within limits",
		module + "/haproxycfg":                       "the files beside a configuration",
		module + "/haproxycfg/certs":                 "the choice of certificates",
		module + "/haproxycfg/certfiles":             "certificates are followed",
		module + "/haproxycfg/controller/canary":     "whether new routes do harm",
		module + "/haproxycfg/controller/explain":    "explanations of the configuration in force",
		module + "/haproxycfg/controller/fleet":      "the orders of operators",
		module + "/haproxycfg/controller/journal":    "the changes that were applied or refused",
		module + "/haproxycfg/controller/statuspage": "the page of its state",
		module + "/internal/webpage":                 "ages on the page of its state",
		module + "/haproxycfg/deploy":                "the directory that it writes to",
		module + "/haproxycfg/edge":                  "shares of routes become part of the configuration",
		module + "/haproxycfg/runtimeapi":            "counters of the backends of a route that moves",
		module + "/haproxycfg/shift":                 "the routes that move",
		module + "/haproxycfg/kube":                  "routes and clusters to a configuration",
		module + "/haproxycfg/routes":                "what is declared",
		module + "/haproxycfg/routefiles":            "files of routes are followed",
		module + "/nodeselect":                       "the selection of nodes",
		module + "/nodeselect/endpoints":             "pods for a simulation",
		module + "/nodeselect/unevenness":            "the load of these pods",
		module + "/nodeselect/live":                  "clusters are followed",
		module + "/nodeselect/manifest":              "directories of manifests are followed",
		"golang.org/x/sync":                          "goroutines that end together",
		"k8s.io/api":                                 "the EndpointSlices of manifests",
		"k8s.io/client-go":                           "how to reach an API server",
	},
	"haproxycfg/controller/drill": {
		module + "/agentcheck/nodeagent":  "which nodes drain",
		module + "/haproxycfg/controller": "the controller whose decisions it shows",
		module + "/haproxycfg/deploy":     "the temporary directory of a drill",
		module + "/haproxycfg/edge":       "how HAProxy checks nodes",
		module + "/haproxycfg/kube":       "the servers in force",
		module + "/haproxycfg/routes":     "the services that routes name",
		module + "/nodeselect":            "the objects of a cluster, which faults change",
		"go.yaml.in/yaml/v3":              "errors of a policy name the line",
		"golang.org/x/sync":               "drills that run at the same time",
		"k8s.io/api":                      "nodes and services, which faults change",
		"k8s.io/apimachinery":             "their metadata",
	},
	"haproxycfg/controller/canary": {
		module + "/haproxycfg/runtimeapi": "the counters of HAProxy",
	},
	"haproxycfg/controller/explain": {
		module + "/haproxycfg":            "the servers of a configuration",
		module + "/haproxycfg/edge":       "the configuration of one route",
		module + "/haproxycfg/kube":       "the report, and the clusters",
		module + "/haproxycfg/routes":     "what is declared",
		module + "/haproxycfg/runtimeapi": "the states of servers",
		module + "/internal/dotsegment":   "paths that HAProxy refuses",
		module + "/internal/hostname":     "the one normal form of a host name",
		module + "/nodeselect":            "the reasons for nodes",
	},
	"haproxycfg/controller/fleet": {
		module + "/haproxycfg/routes": "the routes that are held",
		module + "/haproxycfg/shift":  "the routes that move",
	},
	"haproxycfg/controller/fleet/configmap": {
		module + "/haproxycfg/controller/fleet": "the orders that it stores",
		module + "/internal/kubeclient":         "the client of ConfigMaps",
		module + "/internal/kubewatch":          "a change is noticed at once",
		"k8s.io/api":                            "the ConfigMap",
		"k8s.io/apimachinery":                   "its metadata, and conflicts",
		"k8s.io/client-go":                      "how to reach an API server",
	},
	"haproxycfg/controller/journal": {
		module + "/haproxycfg/kube":     "the causes of a change, and the report",
		module + "/haproxycfg/routes":   "what is declared",
		module + "/internal/atomicfile": "an entry appears as a whole",
		module + "/internal/inputfile":  "entries are read within limits",
	},
	"haproxycfg/controller/statuspage": {
		module + "/haproxycfg/certs":              "certificates that end soon",
		module + "/haproxycfg/controller/explain": "the nodes of a service, and why the others are unused",
		module + "/haproxycfg/controller/journal": "the last changes",
		module + "/haproxycfg/deploy":             "the losses of a refused change",
		module + "/haproxycfg/kube":               "the report",
		module + "/haproxycfg/routes":             "the routes in force",
		module + "/haproxycfg/shift":              "the routes that move",
		module + "/internal/webpage":              "the look of the page",
		module + "/nodeselect":                    "why a node is unused",
	},
	"haproxycfg/controller/lease": {
		module + "/haproxycfg/controller": "the election that it implements",
		module + "/internal/kubeclient":   "the client of Leases",
		"k8s.io/api":                      "the Lease",
		"k8s.io/apimachinery":             "its metadata, and conflicts",
		"k8s.io/client-go":                "how to reach an API server",
	},
	"sniproxy": {
		module + "/internal/fairshare":   "which connection makes room for another one",
		module + "/internal/specialaddr": "addresses that an endpoint must not have",
		module + "/sniproxy/ech":         "which host it is, in an encrypted hello",
		module + "/sniproxy/hostlookup":  "where a host's connections go",
		module + "/sniproxy/peek":        "which host it is",
		module + "/sniproxy/peek/quic":   "which host it is, in QUIC",
		module + "/sniproxy/quicrelay":   "carrying the datagrams of QUIC",
		module + "/sniproxy/relay":       "carrying the bytes",
		"github.com/pires/go-proxyproto": "the PROXY protocol",
		"golang.org/x/net":               "answers in HTTP/2",
	},
	"sniproxy/ech": {
		module + "/sniproxy/peek": "the name and the versions in an inner hello",
	},
	"sniproxy/ech/keyfiles": {
		module + "/internal/atomicfile": "a new key is a whole file",
		module + "/internal/filewatch":  "keys are read again when a file changes",
		module + "/internal/inputfile":  "files of keys are read within limits",
		module + "/sniproxy/ech":        "the format of the files",
	},
	"internal/netserve": {
		module + "/internal/fairshare": "which connection makes room for another one",
	},
	"sniproxy/relay": {
		module + "/internal/netserve": "what to do when accepting fails",
		"golang.org/x/sys":            "epoll and splice",
	},
	"sniproxy/peek": {
		module + "/internal/hostname": "the one normal form of a host name",
		"golang.org/x/net":            "header compression of HTTP/2",
	},
	"sniproxy/peek/quic": {
		module + "/sniproxy/peek": "the ClientHello, its errors and limits",
	},
	"sniproxy/quicrelay": {
		module + "/internal/fairshare": "which path makes room for another one",
		module + "/sniproxy/peek":      "a hello that is not complete",
		module + "/sniproxy/peek/quic": "the server name of a connection, and the IDs of packets",
		"golang.org/x/sys":             "bundles of datagrams",
	},
	"sniproxy/hostlookup": {
		module + "/internal/inputfile":                     "files of hosts are read within limits",
		module + "/internal/atomicfile":                    "a cache file is replaced as a whole",
		module + "/internal/exactjson":                     "the names of JSON members match exactly",
		module + "/internal/filewatch":                     "a hosts file is read again when it changes",
		module + "/internal/hostname":                      "the normal form of a host name",
		module + "/sniproxy/hostlookup/internal/nametable": "the table of a cache, read without a lock",
		module + "/sniproxy/hostlookup/internal/striped":   "counting hits without contention",
		"github.com/hashicorp/golang-lru/v2":               "order and capacity of the cache",
	},
	"sniproxy/tophosts": {},
	"sniproxy/hostlookup/httpapi": {
		module + "/internal/apiclient":  "requests within limits",
		module + "/internal/bearer":     "the token of a request",
		module + "/internal/longpoll":   "requests that wait for a change",
		module + "/internal/exactjson":  "the names of JSON members match exactly",
		module + "/sniproxy/hostlookup": "the endpoints and changes that it carries",
		module + "/internal/hostname":   "the normal form of a host name",
	},
	"internal/chromiumtest": {
		module + "/internal/inputfile": "the port of Chromium is in a file",
		"github.com/stretchr/testify":  "its checks",
		"golang.org/x/net":             "WebSockets, for the DevTools protocol",
	},
	"internal/webpage": {},
	"internal/bearer": {
		module + "/internal/inputfile": "a token file is read within limits",
	},
	"internal/longpoll": {
		module + "/internal/fairshare": "which request that waits makes room for another one",
	},
	"nodeselect/endpoints/httpapi": {
		module + "/internal/apiclient":   "requests within limits",
		module + "/internal/bearer":      "the token of a request",
		module + "/internal/exactjson":   "the names of JSON members match exactly",
		module + "/internal/longpoll":    "requests that wait for a change",
		module + "/nodeselect":           "the name of a service port",
		module + "/nodeselect/endpoints": "the pods that it carries",
	},
	"internal/haproxyproc": {
		module + "/haproxycfg/runtimeapi": "asking HAProxy whether it is ready",
		module + "/internal/haproxymsg":   "the reasons why HAProxy does not start",
	},
	"internal/atomicfile": {
		module + "/internal/filelock":  "the temporary files of running processes are locked",
		module + "/internal/inputfile": "the present content is read within limits",
	},
	"internal/filelock": {},
	"internal/filewatch": {
		module + "/internal/inputfile": "looking at a file never blocks",
		module + "/internal/debounce":  "a burst of events is one change",
		"github.com/fsnotify/fsnotify": "events of the operating system",
	},
	"internal/haproxyproc/haproxytest": {
		module + "/haproxycfg/runtimeapi": "asking the old workers whether they accept connections",
		module + "/internal/freeport":     "HAProxy's ports stay reserved until HAProxy starts",
		module + "/internal/haproxyproc":  "the process that it runs",
	},
	"internal/freeport": {
		"golang.org/x/sys": "a port that is bound and not listened on",
	},
	"internal/httpload": {
		"golang.org/x/sys": "seeing that the server has closed a connection, before a write",
	},
	"internal/hostname": {
		"golang.org/x/net": "the mapping of internationalised host names",
	},
	"internal/kubeclient": {
		"k8s.io/api":          "the objects that it reads and writes",
		"k8s.io/apimachinery": "their encoding",
		"k8s.io/client-go":    "how to reach an API server",
	},
	"internal/kubeclient/leasestest": {
		"k8s.io/api":          "the Leases that it holds",
		"k8s.io/apimachinery": "their metadata, and conflicts",
	},
	"internal/kubewatch": {
		"k8s.io/api":          "the objects that are watched",
		"k8s.io/apimachinery": "lists, watches and their errors",
		"k8s.io/client-go":    "the Reflector, which knows what a watch can do wrong",
		"k8s.io/klog":         "its log is silenced",
		"k8s.io/utils":        "its clock",
	},
	"internal/kubewatch/kubewatchtest": {
		"k8s.io/api":          "the objects that its API server holds",
		"k8s.io/apimachinery": "their lists and selectors",
		"k8s.io/client-go":    "how to reach it",
	},
	"internal/manifesttest": {
		"k8s.io/api":          "the objects of a cluster",
		"k8s.io/apimachinery": "their metadata",
		"sigs.k8s.io/yaml":    "printing them as kubectl does",
	},
	"internal/openapitest": {
		"go.yaml.in/yaml/v3":           "OpenAPI documents are YAML",
		module + "/internal/inputfile": "reading them",
	},
}

// forbidden lists packages that another package must not import, neither directly nor through other
// packages.
var forbidden = []struct{ in, what, why string }{
	{"hashring", "k8s.io/", "a hash needs no cluster"},
	{"agentcheck", "k8s.io/", "an agent beside any program, not only in Kubernetes"},
	{"agentcheck/drain", "k8s.io/", "a clean stop of any server, not only in Kubernetes"},
	{"agentcheck/drain", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg", module + "/haproxycfg/", "rendering needs neither declarations nor a running HAProxy"},
	{"haproxycfg", "k8s.io/", "rendering needs no cluster"},
	{"haproxycfg/edge", "k8s.io/", "declarations and addresses may come from anywhere"},
	{"haproxycfg/deploy", "k8s.io/", "a configuration may come from anywhere"},
	{"haproxycfg/deploy", module + "/haproxycfg/routes", "a configuration may come from anywhere"},
	{"haproxycfg/frontproxy", "k8s.io/", "pods may come from anywhere"},
	{"haproxycfg/frontproxy/policy", "k8s.io/", "a policy is a file"},
	{"haproxycfg/frontproxy", "go.yaml.in/", "settings may come from anywhere"},
	{"haproxycfg/frontproxy", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg/certs", "github.com/fsnotify/", "choosing certificates reads no files"},
	{"haproxycfg/certfiles", "k8s.io/", "certificates may come from anywhere"},
	{"haproxycfg/certfiles", module + "/haproxycfg/deploy", "its caller decides who checks certificates"},
	{"haproxycfg/supervisor", "k8s.io/", "it runs any HAProxy"},
	{"haproxycfg/frontproxy/controller", "k8s.io/client-go", "pods may come from files or from the discovery API"},
	{"haproxycfg/frontproxy/controller", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg/supervisor", module + "/haproxycfg/deploy", "its caller decides how HAProxy is reloaded"},
	{"haproxycfg/runtimeapi", module + "/haproxycfg", "it speaks to any HAProxy"},
	{"haproxycfg/routes", "k8s.io/", "declarations name clusters; they do not talk to them"},
	{"haproxycfg/routefiles", "k8s.io/", "declarations name clusters; they do not talk to them"},
	{"haproxycfg/hostcluster", "k8s.io/client-go", "choosing a cluster needs services, wherever they come from"},
	{"internal/apiclient", "k8s.io/", "used by clients that know no cluster"},
	{"internal/hostname", "k8s.io/", "every entrance uses it, also routers that know no cluster"},
	{"internal/netserve", "k8s.io/", "used by servers that know no cluster"},
	{"sniproxy", "k8s.io/", "a router for any upstream"},
	{"sniproxy", "github.com/prometheus/", "metrics are the binary's choice"},
	{"sniproxy/ech", "github.com/fsnotify/", "opening hellos reads no files"},
	{"sniproxy/hostlookup", "k8s.io/", "a lookup that asks HTTP or a file"},
	{"sniproxy/hostlookup/httpapi", "k8s.io/", "both ends of an HTTP API about hosts, which may come from anywhere"},
	{"nodeselect", "k8s.io/client-go", "choosing nodes needs objects, wherever they come from"},
	{"nodeselect", "github.com/fsnotify/", "choosing nodes reads no files"},
	{"nodeselect", "sigs.k8s.io/yaml", "choosing nodes parses no text"},
	{"nodeselect/disruption/gate", "k8s.io/client-go", "a decision needs states of nodes, wherever they come from"},
	{"nodeselect/disruption/gate/protect", "k8s.io/client-go", "a decision needs grants, wherever they come from"},
	{"nodeselect/disruption/gate/protector", "github.com/prometheus/", "metrics are the binary's choice"},
	{"nodeselect/unevenness", "k8s.io/", "a formula needs no cluster"},
	{"nodeselect/disruption", "k8s.io/client-go", "deciding which nodes may go needs subsets, wherever they come from"},
	{"nodeselect/endpoints", "k8s.io/client-go", "merging slices needs objects, wherever they come from"},
	{"nodeselect/endpoints", "github.com/fsnotify/", "merging slices reads no files"},
	{"nodeselect/endpoints", "sigs.k8s.io/yaml", "merging slices parses no text"},
	{"nodeselect/endpoints", "github.com/prometheus/", "metrics are the binary's choice"},
	{"nodeselect/manifest", "k8s.io/client-go", "a tool that reads manifests talks to no API server"},
	{"nodeselect/kubeapp", "k8s.io/client-go", "making objects needs no API server"},
	{"nodeselect/kubeapp/apply", "k8s.io/client-go/kubernetes", "the clients of all API groups take a third of the time of make test"},
	{"nodeselect/kubeapp/change", "k8s.io/client-go", "comparing objects needs no API server"},
	{"nodeselect/endpoints/httpapi", "k8s.io/client-go", "front proxies that ask a server for pods talk to no API server"},
	{"nodeselect/endpoints/httpapi", "github.com/prometheus/", "metrics are the binary's choice"},
	{"nodeselect/live", "k8s.io/client-go/kubernetes", "the clientset holds every API group, tens of megabytes of them"},
	{"agentcheck/nodeagent", "k8s.io/client-go/kubernetes", "an agent on every node has to be small"},
	{"haproxycfg/kube", "k8s.io/client-go/kubernetes", "nothing here writes to a cluster"},
	{"haproxycfg/controller", module + "/internal/kubeclient", "only an election writes to a cluster, and package lease has it"},
	{"internal/kubeclient", "k8s.io/client-go/gentype", "it compiles the schemas of OpenAPI"},
	{"examples/nodeagent", "k8s.io/client-go/kubernetes", "an agent on every node has to be small"},
	{"examples/kubeapp", "k8s.io/client-go/kubernetes", "the clients of all API groups take a third of the time of make test"},
	{"examples/nodegate", "k8s.io/client-go/kubernetes", "the clients of all API groups take a third of the time of make test"},
	{"examples/terminator", "k8s.io/client-go/kubernetes", "the clients of all API groups take a third of the time of make test"},
	{"examples/snirouter", "k8s.io/", "a router for any upstream"},
	{"hashring", "github.com/prometheus/", "metrics are the binary's choice"},
	{"agentcheck", "github.com/prometheus/", "metrics are the binary's choice"},
	{"nodeselect/manifest", "github.com/prometheus/", "metrics are the binary's choice"},
	{"nodeselect/live", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg", "github.com/prometheus/", "metrics are the binary's choice"},
	{"agentcheck/nodeagent", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg/kube", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg/controller", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg/controller/explain", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg/controller/explain", "k8s.io/client-go", "an explanation reads no cluster"},
	{"haproxycfg/controller/fleet", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg/controller/fleet", "k8s.io/client-go", "an order reads no cluster"},
	{"haproxycfg/controller/fleet/configmap", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg/controller/journal", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg/controller/journal", "k8s.io/client-go", "a journal reads no cluster"},
	{"haproxycfg/controller/statuspage", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg/controller/statuspage", "k8s.io/client-go", "the page reads no cluster"},
	{"haproxycfg/controller/lease", "github.com/prometheus/", "metrics are the binary's choice"},
	{"haproxycfg/controller/drill", "k8s.io/client-go/kubernetes", "a drill writes to no cluster"},
	{"haproxycfg/controller/drill", "github.com/prometheus/", "metrics are the binary's choice"},
}

type pkg struct {
	ImportPath  string
	Name        string
	Dir         string
	GoFiles     []string
	TestGoFiles []string
	Imports     []string
	Deps        []string
}

func (p pkg) short() string { return strings.TrimPrefix(p.ImportPath, module+"/") }

func listPackages(t *testing.T) []pkg {
	t.Helper()
	pkgs, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	return pkgs
}

// packages returns the output of "go list" for all packages. It runs the go command once for all
// tests.
var packages = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Dir,GoFiles,TestGoFiles,Imports,Deps", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if len(p.GoFiles) > 0 { // this package has tests only
			pkgs = append(pkgs, p)
		}
	}
	if len(pkgs) < 5 {
		return nil, fmt.Errorf("found %d packages", len(pkgs))
	}
	return pkgs, nil
})

// inStandardLibrary reports whether a path is an import path of the standard library. It uses the
// rule of the go command: the first element of such a path has no dot.
func inStandardLibrary(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func TestImports(t *testing.T) {
	used := map[string]bool{}
	exists := map[string]bool{}
	for _, p := range listPackages(t) {
		exists[p.short()] = true
		for _, rule := range forbidden {
			if rule.in != p.short() {
				continue
			}
			for _, dep := range p.Deps {
				if strings.HasPrefix(dep, rule.what) {
					t.Errorf("%s compiles %s: %s", p.short(), dep, rule.why)
					break
				}
			}
		}
		if strings.HasPrefix(p.short(), "examples/") {
			continue // binaries may import everything else
		}
		for _, imp := range p.Imports {
			if inStandardLibrary(imp) {
				continue
			}
			allowed := false
			for prefix := range directImports[p.short()] {
				if imp == prefix || strings.HasPrefix(imp, prefix+"/") && !strings.HasPrefix(prefix, module) {
					allowed = true
					used[p.short()+" "+prefix] = true
				}
			}
			if !allowed {
				t.Errorf("%s imports %s, which directImports does not give a reason for", p.short(), imp)
			}
		}
	}
	for _, rule := range forbidden {
		if !exists[rule.in] {
			t.Errorf("forbidden has a rule for %s, which is no package", rule.in)
		}
	}
	for name, imports := range directImports {
		for imp := range imports {
			if !used[name+" "+imp] {
				t.Errorf("directImports lets %s import %s, which it does not", name, imp)
			}
		}
	}
}

// readers are functions that open a file by its name. All of them except os.OpenFile read the file
// without a limit. If the file is a FIFO, all of them wait until another process opens it.
var readers = []string{
	"os.ReadFile", "os.Open", "os.OpenFile", "os.ReadDir", "os.DirFS", "os.OpenInRoot", "os.OpenRoot",
	"ioutil.ReadFile", "ioutil.ReadDir", "tls.LoadX509KeyPair", "clientcmd.LoadFromFile",
	"clientcmd.BuildConfigFromFlags", "template.ParseFiles", "template.ParseGlob",
}

// mayOpenFiles lists the places that may call the functions in readers. For each place, it has the
// reason why the path there never comes from a user. All other places must read files with package
// inputfile.
var mayOpenFiles = map[string]string{
	"internal/inputfile":             "it sets the limits",
	"internal/atomicfile":            "it syncs directories, and locks its own temporary files",
	"internal/netserve":              "it opens /dev/null",
	"haproxycfg/deploy/files.go":     "it creates a file, and does not wait for a FIFO",
	"internal/filelock":              "it creates a file, and does not wait for a FIFO",
	"haproxycfg/internal/configtest": "it helps tests",
	"examples/internal/cli/clitest":  "it helps tests",
	"examples/e2e":                   "it is a test",
	"internal/benchmarks":            "it reads only files that it has written, and /proc",
	".ci/licences":                   "it reads only pages of the repository, and files of Go modules",
	".ci/pages":                      "it reads only pages of the repository",
	".ci/sbom":                       "it reads only what make has built, and files of a Go module",
	"internal/image":                 "it reads only binaries that make has built",
	"sniproxy/peek/testdata":         "it writes test data",
}

// TestUserFilesAreReadWithLimits checks that only the places in mayOpenFiles call the functions in
// readers. A path that a user names can be a FIFO, a file without an end, or a file on a file
// system that does not answer. Only package inputfile handles these cases.
func TestUserFilesAreReadWithLimits(t *testing.T) {
	used := map[string]bool{}
	place := func(file string) string {
		for dir := file; dir != "."; dir = filepath.ToSlash(filepath.Dir(dir)) {
			if mayOpenFiles[dir] != "" {
				return dir
			}
		}
		return ""
	}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		file = filepath.ToSlash(file)
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if from, ok := call.X.(*ast.Ident); ok && slices.Contains(readers, from.Name+"."+call.Sel.Name) {
				if p := place(file); p != "" {
					used[p] = true
				} else {
					t.Errorf("%s uses %s.%s; package inputfile reads files of users", file, from.Name, call.Sel.Name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for p := range mayOpenFiles {
		if !used[p] {
			t.Errorf("mayOpenFiles has %s, which opens no file", p)
		}
	}
}

// topLevel lists all top-level directories that may contain packages. Put a new package below the
// package that it belongs to.
var topLevel = []string{"agentcheck", "examples", "hashring", "haproxycfg", "internal", "nodeselect", "sniproxy"}

func TestTopLevelIsFixed(t *testing.T) {
	for _, p := range listPackages(t) {
		first, _, _ := strings.Cut(p.short(), "/")
		if !slices.Contains(topLevel, first) {
			t.Errorf("%s is a new top-level package", p.short())
		}
	}
}

func TestOnePackageComment(t *testing.T) {
	for _, p := range listPackages(t) {
		var with []string
		for _, file := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				with = append(with, file)
				want := "Package " + p.Name + " "
				if p.Name == "main" {
					want = strings.ToUpper(filepath.Base(p.Dir)[:1]) + filepath.Base(p.Dir)[1:] + " "
				}
				if !strings.HasPrefix(f.Doc.Text(), want) {
					t.Errorf("%s: %s: the package comment begins with %q, want %q", p.short(), file, firstWords(f.Doc.Text()), want)
				}
			}
		}
		if len(with) != 1 {
			t.Errorf("%s has package comments in %q, want exactly one", p.short(), with)
		}
	}
}

func firstWords(s string) string { return s[:min(len(s), 30)] }

func TestReadmeNamesEveryPackage(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range listPackages(t) {
		if strings.HasPrefix(p.short(), "internal/") || strings.Contains(p.short(), "/internal/") {
			continue
		}
		if !strings.Contains(string(readme), "`"+p.short()+"`") {
			t.Errorf("README.md does not name `%s`", p.short())
		}
	}
}

// TestStabilityNamesEveryPackage checks that STABILITY.md promises something for each package that
// users can import, and for no other.
func TestStabilityNamesEveryPackage(t *testing.T) {
	text, err := os.ReadFile("STABILITY.md")
	if err != nil {
		t.Fatal(err)
	}
	promised := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)` \\| (stable|may change) \\|$").FindAllStringSubmatch(string(text), -1) {
		promised[row[1]] = row[2]
	}
	for _, p := range listPackages(t) {
		if name := "/" + p.short() + "/"; strings.Contains(name, "/internal/") || strings.HasPrefix(name, "/examples/") {
			continue
		}
		if promised[p.short()] == "" {
			t.Errorf("STABILITY.md has no promise for %s", p.short())
		}
		delete(promised, p.short())
	}
	for name := range promised {
		t.Errorf("STABILITY.md has a promise for %s, which users cannot import", name)
	}
}

// TestBinariesBuild builds the binaries whose package has no test. If a package has tests, go test
// compiles and links all code of the binary, so a second build would find no further error.
func TestBinariesBuild(t *testing.T) {
	var untested []string
	binaries := 0
	for _, p := range listPackages(t) {
		if p.Name != "main" {
			continue
		}
		binaries++
		if len(p.TestGoFiles) == 0 {
			untested = append(untested, p.ImportPath)
		}
	}
	if binaries == 0 {
		t.Fatal("found no binary")
	}
	if len(untested) == 0 {
		return
	}
	args := append([]string{"build", raceFlag, "-o", t.TempDir()}, untested...)
	if msg, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, msg)
	}
}

// TestContributingMapsEveryPackage compares the map in CONTRIBUTING.md with the code: one row for
// each package outside examples, whose second column lists what the package may import.
func TestContributingMapsEveryPackage(t *testing.T) {
	text, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // from package to imports
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, " | "); len(cells) == 3 && strings.HasPrefix(line, "| `") {
			rows[strings.Trim(cells[0], "| `")] = cells[1]
		}
	}
	for _, p := range listPackages(t) {
		if strings.HasPrefix(p.short(), "examples/") {
			continue
		}
		var imports []string
		for imp := range directImports[p.short()] {
			imports = append(imports, "`"+strings.TrimPrefix(imp, module+"/")+"`")
		}
		slices.Sort(imports)
		want := strings.Join(imports, ", ")
		if got, ok := rows[p.short()]; !ok || got != cmp.Or(want, "nothing") {
			t.Errorf("CONTRIBUTING.md: the row of `%s` has imports %q, want %q", p.short(), got, cmp.Or(want, "nothing"))
		}
	}
}

// TestDockerfilesCopyTheLicences: the licences of the modules in a binary require that each copy of
// the binary comes with their texts.
func TestDockerfilesCopyTheLicences(t *testing.T) {
	found := 0
	err := filepath.WalkDir("examples", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.Contains(entry.Name(), "Dockerfile") {
			return err
		}
		found++
		text, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(text), "\nCOPY --from=licences LICENSE LICENSES /usr/share/doc/headgate/\n") {
			t.Errorf("%s does not copy the licences to /usr/share/doc/headgate/, as the image of \"make image\" does", file)
		}
		return err
	})
	if err != nil || found == 0 {
		t.Error(found, "Dockerfiles:", err)
	}
}

var markdownLink = regexp.MustCompile(`\]\(([^)#\s]+)`)

// TestPagesLinkToFiles follows the relative links of every page.
func TestPagesLinkToFiles(t *testing.T) {
	err := filepath.WalkDir(".", func(page string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(page) != ".md" {
			return err
		}
		text, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		for _, link := range markdownLink.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), link[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, link[1], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

var (
	testsOfAFailure = regexp.MustCompile("\\| ((?:(?:, )?`[a-z0-9/]+` Test[A-Za-z0-9]+)+) \\|$")
	testOfAFailure  = regexp.MustCompile("`([a-z0-9/]+)` (Test[A-Za-z0-9]+)")
)

// TestFailuresNameTests checks that each row of FAILURES.md names at least one test, and that all
// named tests exist.
func TestFailuresNameTests(t *testing.T) {
	text, err := os.ReadFile("FAILURES.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| what goes wrong |") {
			continue
		}
		rows++
		last := testsOfAFailure.FindStringSubmatch(strings.TrimSpace(line))
		if last == nil {
			t.Errorf("this row does not end with directories and tests: %s", line)
			continue
		}
		for _, test := range testOfAFailure.FindAllStringSubmatch(last[1], -1) {
			files, err := filepath.Glob(filepath.Join(test[1], "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(files, func(file string) bool {
				source, err := os.ReadFile(file)
				return err == nil && strings.Contains(string(source), "func "+test[2]+"(t *testing.T)")
			}) {
				t.Errorf("%s has no test %s", test[1], test[2])
			}
		}
	}
	if rows == 0 {
		t.Error("FAILURES.md has no rows")
	}
}
