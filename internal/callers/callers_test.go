// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package callers

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
	"github.com/garyclub/webhook-operator/internal/fixture/controlplane"
)

// stand is a real API server, at which the service account shop/app may post in shop, and in warehouse once it is bound
// there.
type stand struct {
	*testing.T
	plane   *controlplane.ControlPlane
	client  kubernetes.Interface
	callers *Callers
	mu      sync.Mutex
	ahead   time.Duration
}

func newStand(t *testing.T) *stand {
	plane, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	client, err := kubernetes.NewForConfig(plane.Config())
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{T: t, plane: plane, client: client}
	s.callers = New(client.AuthenticationV1().TokenReviews(), client.AuthorizationV1().SubjectAccessReviews(), &paced{strangers: 1000}, s.now)
	for _, namespace := range []string{"shop", "warehouse"} {
		if err := plane.Namespace(t.Context(), namespace); err != nil {
			t.Fatal(err)
		}
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "webhook-event-producer"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"webhooks.gary.club"}, Resources: []string{"webhookevents"}, Verbs: []string{"create"}}}}
	if _, err := client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stand) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.ahead)
}

func (s *stand) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += d
}

func (s *stand) bind(namespace string) {
	s.Helper()
	b := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "producers"},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "webhook-event-producer"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "shop", Name: "app"}}}
	if _, err := s.client.RbacV1().RoleBindings(namespace).Create(s.Context(), b, metav1.CreateOptions{}); err != nil {
		s.Fatal(err)
	}
}

func (s *stand) token(pod, audience string) string {
	s.Helper()
	token, err := s.plane.PodToken(s.Context(), "shop", "app", pod, audience)
	if err != nil {
		s.Fatal(err)
	}
	return token
}

func (s *stand) want(what, token, namespace, wantNamespace string, want error) {
	s.Helper()
	got, err := s.callers.Admit(s.Context(), token, namespace)
	if got != wantNamespace || !errors.Is(err, want) {
		s.Errorf("%s: namespace %q, error %v; want %q, %v", what, got, err, wantNamespace, want)
	}
	if err != nil && token != "" && strings.Contains(err.Error(), token) {
		s.Errorf("%s: the error shows the token", what)
	}
}

// eventually waits for what the API server does by itself: it keeps its own verdicts for seconds.
func (s *stand) eventually(what string, token, namespace string, want error) {
	s.Helper()
	for limit := time.Now().Add(40 * time.Second); ; {
		s.advance(admittedFor)
		if _, err := s.callers.Admit(s.Context(), token, namespace); errors.Is(err, want) {
			return
		}
		if time.Now().After(limit) {
			s.Fatalf("not seen: %s", what)
		}
		<-time.After(100 * time.Millisecond)
	}
}

func TestCallersOfAnAPIServer(t *testing.T) {
	s := newStand(t)
	good := s.token("app-1", v1alpha1.EventsAudience)
	s.want("without a right", good, "", "shop", ErrForbidden)
	s.bind("shop")
	s.eventually("the right in its own namespace", good, "", nil)
	s.want("its own namespace", good, "", "shop", nil)
	s.want("its own namespace by name", good, "shop", "shop", nil)
	s.want("another namespace", good, "warehouse", "warehouse", ErrForbidden)
	s.bind("warehouse")
	s.eventually("the right in another namespace", good, "warehouse", nil)
	s.want("a namespace that is not there", good, "nowhere", "nowhere", ErrForbidden)
	for name, token := range map[string]string{
		"for the API server": s.token("app-1", ""),
		"a dispatcher's":     s.token("app-1", v1alpha1.TokenAudience),
		"forged":             good[:len(good)-8] + "AAAAAAAA",
		"no JWT":             "nonsense",
		"none":               "",
		"too long":           strings.Repeat("a", maxTokenBytes) + ".b.c",
	} {
		s.want(name, token, "", "", ErrUnauthenticated)
	}
	zero := int64(0)
	if err := s.client.CoreV1().Pods("shop").Delete(t.Context(), "app-1", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	s.want("within its minute", good, "warehouse", "warehouse", nil)
	s.eventually("the end of a token whose pod is gone", good, "", ErrUnauthenticated)
	if err := s.plane.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	s.want("without an API server", good[:len(good)-8]+"BBBBBBBB", "", "", ErrUnavailable)
}

// fake stands for an API server, whose own behaviour the test above shows.
type fake struct {
	authenticationclient.TokenReviewInterface
	user    authenticationv1.UserInfo
	bad     bool
	err     error
	reviews atomic.Int64
	block   chan struct{}
	access  *fakeAccess
}

func (f *fake) Create(_ context.Context, r *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	f.reviews.Add(1)
	if f.block != nil {
		<-f.block
	}
	answer := r.DeepCopy()
	answer.Status = authenticationv1.TokenReviewStatus{Authenticated: !f.bad, Audiences: r.Spec.Audiences, User: f.user}
	return answer, f.err
}

type fakeAccess struct {
	authorizationclient.SubjectAccessReviewInterface
	asked   authorizationv1.SubjectAccessReviewSpec
	allowed bool
	err     error
}

func (f *fakeAccess) Create(_ context.Context, r *authorizationv1.SubjectAccessReview, _ metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error) {
	f.asked = r.Spec
	answer := r.DeepCopy()
	answer.Status.Allowed = f.allowed
	return answer, f.err
}

func newFake(now func() time.Time) (*fake, *Callers) {
	f := &fake{access: &fakeAccess{allowed: true}, user: authenticationv1.UserInfo{
		Username: "system:serviceaccount:shop:app", UID: "uid", Groups: []string{"g"},
		Extra: map[string]authenticationv1.ExtraValue{"k": {"v"}}}}
	return f, New(f, f.access, &paced{strangers: 1000}, now)
}

func TestTheWholeUserIsAskedAbout(t *testing.T) {
	f, c := newFake(nil)
	if _, err := c.Admit(t.Context(), "a.b.c", "warehouse"); err != nil {
		t.Fatal(err)
	}
	a := f.access.asked
	if a.User != f.user.Username || a.UID != "uid" || a.Groups[0] != "g" || a.Extra["k"][0] != "v" {
		t.Errorf("asked about %+v", a)
	}
	want := authorizationv1.ResourceAttributes{Namespace: "warehouse", Verb: "create", Group: "webhooks.gary.club", Resource: "webhookevents"}
	if *a.ResourceAttributes != want {
		t.Errorf("asked for %+v, want %+v", *a.ResourceAttributes, want)
	}
}

func TestPeopleNameANamespace(t *testing.T) {
	f, c := newFake(nil)
	f.user.Username = "jane"
	if _, err := c.Admit(t.Context(), "a.b.c", ""); !errors.Is(err, ErrNoNamespace) {
		t.Errorf("error %v, want ErrNoNamespace", err)
	}
	if got, err := c.Admit(t.Context(), "a.b.c", "shop"); got != "shop" || err != nil {
		t.Errorf("namespace %q, error %v", got, err)
	}
}

func TestVerdictsAreKeptForATime(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*fake)
		want   error
		kept   time.Duration
	}{
		"admitted":               {func(*fake) {}, nil, admittedFor},
		"not known":              {func(f *fake) { f.bad = true }, ErrUnauthenticated, refusedFor},
		"no right":               {func(f *fake) { f.access.allowed = false }, ErrForbidden, refusedFor},
		"review unavailable":     {func(f *fake) { f.err = errors.New("quotes a.b.c") }, ErrUnavailable, 0},
		"no answer about rights": {func(f *fake) { f.access.err = errors.New("quotes a.b.c") }, ErrUnavailable, 0},
	} {
		now := time.Unix(0, 0)
		f, c := newFake(func() time.Time { return now })
		tc.change(f)
		ask := func(want int64) {
			t.Helper()
			_, err := c.Admit(t.Context(), "a.b.c", "")
			if !errors.Is(err, tc.want) || err != nil && strings.Contains(err.Error(), "a.b.c") {
				t.Errorf("%s: error %v, want %v", name, err, tc.want)
			}
			if got := f.reviews.Load(); got != want {
				t.Errorf("%s: the API server was asked %d times, want %d", name, got, want)
			}
		}
		ask(1)
		if tc.kept == 0 {
			ask(2)
			continue
		}
		now = now.Add(tc.kept - 1)
		ask(1)
		now = now.Add(1)
		ask(2)
	}
}

// paced lets so many strangers through, and those who are known.
type paced struct {
	mu        sync.Mutex
	strangers int
	good      []string
}

func (p *paced) Allow(string, time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.strangers--
	return p.strangers >= 0
}

func (p *paced) AllowKnown(time.Time) bool { return true }

func (p *paced) Good(token string, _ time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.good = append(p.good, token)
}

func TestAFloodOfStrangersDoesNotShutOutWhoIsKnown(t *testing.T) {
	now := time.Unix(0, 0)
	f, c := newFake(func() time.Time { return now })
	p := &paced{strangers: 3}
	c.pace = p
	if _, err := c.Admit(t.Context(), "a.b.good", ""); err != nil {
		t.Fatal(err)
	}
	f.bad = true
	refused := 0
	for n := range 10 {
		if _, err := c.Admit(t.Context(), "a.b."+strconv.Itoa(n), ""); errors.Is(err, ErrUnavailable) {
			refused++
		}
	}
	if got := f.reviews.Load(); got != 3 || refused != 8 {
		t.Errorf("the API server was asked %d times, %d were put off", got, refused)
	}
	f.bad = false
	now = now.Add(admittedFor)
	if _, err := c.Admit(t.Context(), "a.b.good", ""); err != nil {
		t.Errorf("a caller that was admitted before is put off: %v", err)
	}
	// The pace knows whose next token is no stranger's: of those who were admitted, and of nobody else.
	if len(p.good) != 2 || p.good[0] != "a.b.good" || p.good[1] != "a.b.good" {
		t.Errorf("good tokens are %v", p.good)
	}
}

func TestTheSameQuestionIsAskedOnce(t *testing.T) {
	f, c := newFake(nil)
	f.block = make(chan struct{})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := c.Admit(t.Context(), "a.b.c", ""); err != nil {
				t.Error(err)
			}
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Admit(gone, "a.b.c", ""); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a caller that has left is answered %v", err)
	}
	close(f.block)
	all.Wait()
	if got := f.reviews.Load(); got > 2 { // a late one may find the flight over, and then the cache
		t.Errorf("asked %d times at once", got)
	}
}
