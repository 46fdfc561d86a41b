package federation

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Count is how often a request of other servers was answered in a way since the server began.
type Count struct {
	Request string // its path; "other" for whatever is not served
	Status  int
	N       int
	Last    time.Time
}

// counts are what was answered. There are as many as there are paths and statuses, whatever others ask.
type counts struct {
	mu  sync.Mutex
	all map[answered]Count
}

type answered struct {
	request string
	status  int
}

// add counts an answer to a request of a pattern.
func (c *counts) add(pattern string, status int, now time.Time) {
	request := strings.TrimPrefix(pattern, http.MethodGet+" ")
	if request == "/" || request == "" {
		request = "other"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[answered]Count{}
	}
	key := answered{request, status}
	c.all[key] = Count{request, status, c.all[key].N + 1, now}
}

// Counts are what was answered since the server began, by requests and statuses.
func (a *API) Counts() (all []Count) {
	a.counts.mu.Lock()
	defer a.counts.mu.Unlock()
	for _, c := range a.counts.all {
		all = append(all, c)
	}
	slices.SortFunc(all, func(x, y Count) int {
		return cmp.Or(cmp.Compare(x.Request, y.Request), cmp.Compare(x.Status, y.Status))
	})
	return all
}

var (
	requests = prometheus.NewDesc("homeserver_federation_requests_total", "Requests of other servers that were answered.", []string{"request", "status"}, nil)
	last     = prometheus.NewDesc("homeserver_federation_last_request_timestamp_seconds", "When a request of another server was answered last.", []string{"request", "status"}, nil)
)

// Describe is that of prometheus.Collector.
func (*API) Describe(c chan<- *prometheus.Desc) {
	c <- requests
	c <- last
}

// Collect is that of prometheus.Collector.
func (a *API) Collect(c chan<- prometheus.Metric) {
	for _, one := range a.Counts() {
		labels := []string{one.Request, strconv.Itoa(one.Status)}
		c <- prometheus.MustNewConstMetric(requests, prometheus.CounterValue, float64(one.N), labels...)
		c <- prometheus.MustNewConstMetric(last, prometheus.GaugeValue, float64(one.Last.UnixMilli())/1000, labels...)
	}
}

// counting is a writer that notes the answer's status.
type counting struct {
	http.ResponseWriter

	status int
}

func (c *counting) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}
