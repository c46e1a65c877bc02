package httpapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/headgate/headgate/nodeselect"
)

// BenchmarkRender renders the answers about 75 pods of one service, and about 200 such services.
func BenchmarkRender(b *testing.B) {
	for _, services := range []int{1, 200} {
		all := group(many(services, 75)...)
		s, _ := (*snapshot)(nil).next(all, Source{})
		views := s.views()
		names := make([]string, len(views))
		for i, v := range views {
			names[i] = v.ref.Namespace + "/" + v.ref.Service + "/" + v.ref.Port
		}
		run := func(format string, render func() int) {
			b.Run(fmt.Sprintf("%s/pods=%d", format, services*75), func(b *testing.B) {
				b.ReportAllocs()
				size := 0
				for b.Loop() {
					size = render()
				}
				b.ReportMetric(float64(size)/float64(services*75), "B/pod")
			})
		}
		run("json", func() int {
			size := 0
			for _, v := range views {
				size += len(newView(v.ref, v.pods).answer(Source{}))
			}
			return size
		})
		run("prometheus", func() int { return len(marshal(targetsOf(views))) })
		run("eds", func() int { return len(marshal(respond("v1", names, views))) })
	}
}

// BenchmarkServe answers requests for one of 200 services. An earlier request has already rendered
// the answer.
func BenchmarkServe(b *testing.B) {
	h := &Handler{}
	h.Publish(group(many(200, 75)...), Source{})
	const target = "/v1/pods/media/service-100/http"
	_, _, header := get(h, target)
	for name, header := range map[string]http.Header{
		"200":  {},
		"304":  {"If-None-Match": {header.Get("ETag")}},
		"gzip": {"Accept-Encoding": {"gzip"}},
	} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, target, nil)
			r.Header = header
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}

// BenchmarkPublish publishes 200 services after a change of one service.
func BenchmarkPublish(b *testing.B) {
	h := &Handler{}
	services := group(many(200, 75)...)
	changed := group(many(1, 75)...)["media/service-000"]
	b.ReportAllocs()
	for b.Loop() {
		services["media/service-000"], changed = changed, services["media/service-000"]
		h.Publish(services, Source{})
	}
}

// BenchmarkParse reads the answer about 75 pods.
func BenchmarkParse(b *testing.B) {
	h := &Handler{}
	h.Publish(group(many(1, 75)...), Source{})
	_, body, _ := get(h, "/v1/pods/media/service-000/http")
	ref := nodeselect.Ref{Namespace: "media", Service: "service-000", Port: "http"}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseAnswer([]byte(body), ref, 75); err != nil {
			b.Fatal(err)
		}
	}
}
