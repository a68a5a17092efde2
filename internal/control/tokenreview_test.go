// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"github.com/garyclub/webhook-operator/internal/fixture/controlplane"
)

func TestTokenReviewerAgainstAnAPIServer(t *testing.T) {
	plane, err := controlplane.Start(t.Context(), controlplane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plane.Stop)
	client, err := kubernetes.NewForConfig(plane.Config())
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Namespace(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	reviewer := NewTokenReviewer(client.AuthenticationV1().TokenReviews(), func() time.Time { return now })
	podToken := func(audience string) string {
		token, err := plane.PodToken(t.Context(), "shop", "app", "app-1", audience)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := podToken(Audience)
	identity, err := reviewer.Authenticate(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	if identity.PodUID == "" {
		t.Error("the pod's UID is missing")
	}
	identity.PodUID = ""
	if want := (Identity{Namespace: "shop", ServiceAccount: "app", Pod: "app-1"}); identity != want {
		t.Errorf("identity = %+v, want %+v", identity, want)
	}

	for name, token := range map[string]string{
		"for the API server": podToken(""),
		"not bound to a pod": unboundToken(t, client),
		"forged":             good[:len(good)-8] + "AAAAAAAA",
		"no JWT":             "nonsense",
	} {
		_, err := reviewer.Authenticate(t.Context(), token)
		wantCode(t, err, codes.Unauthenticated)
		if strings.Contains(err.Error(), token) {
			t.Errorf("%s: the error shows the token", name)
		}
	}

	zero := int64(0)
	if err := client.CoreV1().Pods("shop").Delete(t.Context(), "app-1", metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	if _, err := reviewer.Authenticate(t.Context(), good); err != nil {
		t.Errorf("within its minute the verdict is asked for again: %v", err)
	}
	// The API server keeps its own verdicts for 10 s.
	eventually(t)(func() codes.Code {
		now = now.Add(acceptedFor)
		_, err := reviewer.Authenticate(t.Context(), good)
		return status.Code(err)
	}).Should(Equal(codes.Unauthenticated))

	if err := plane.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	_, err = reviewer.Authenticate(t.Context(), good[:len(good)-8]+"BBBBBBBB")
	wantCode(t, err, codes.Unavailable)
}

func unboundToken(t *testing.T, client kubernetes.Interface) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{Audience}}}
	answer, err := client.CoreV1().ServiceAccounts("shop").CreateToken(t.Context(), "app", request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Token
}

// fakeReviews counts; its verdicts stand for those of an API server, whose own behaviour the test above shows.
type fakeReviews struct {
	authenticationclient.TokenReviewInterface
	asked  int
	status authenticationv1.TokenReviewStatus
	err    error
}

func (f *fakeReviews) Create(_ context.Context, r *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	f.asked++
	answer := r.DeepCopy()
	answer.Status = f.status
	return answer, f.err
}

func goodStatus() authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: []string{Audience},
		User: authenticationv1.UserInfo{
			Username: "system:serviceaccount:shop:app",
			Extra:    map[string]authenticationv1.ExtraValue{extraPodName: {"app-1"}, extraPodUID: {"uid"}},
		},
	}
}

func TestVerdictsAreKeptForATime(t *testing.T) {
	const token = "a.b.c"
	for name, tc := range map[string]struct {
		status authenticationv1.TokenReviewStatus
		err    error
		kept   time.Duration
		want   codes.Code
	}{
		"good":        {status: goodStatus(), kept: acceptedFor, want: codes.OK},
		"refused":     {kept: refusedFor, want: codes.Unauthenticated},
		"unavailable": {err: errors.New("quotes " + token), want: codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(0, 0)
			f := &fakeReviews{status: tc.status, err: tc.err}
			r := NewTokenReviewer(f, func() time.Time { return now })
			ask := func() {
				t.Helper()
				_, err := r.Authenticate(t.Context(), token)
				wantCode(t, err, tc.want)
				if err != nil && strings.Contains(err.Error(), token) {
					t.Error("the error shows the token")
				}
			}
			ask()
			now = now.Add(max(0, tc.kept-1))
			ask()
			want := 1
			if tc.kept == 0 {
				want = 2
			}
			if f.asked != want {
				t.Errorf("asked %d times within the time, want %d", f.asked, want)
			}
			now = now.Add(1)
			ask()
			if f.asked != want+1 {
				t.Errorf("asked %d times after it, want %d", f.asked, want+1)
			}
		})
	}
}

func TestIdentityNeedsAudienceAndPod(t *testing.T) {
	if _, good := identityFrom(new(goodStatus())); !good {
		t.Fatal("the good one is refused")
	}
	for name, spoil := range map[string]func(*authenticationv1.TokenReviewStatus){
		"not authenticated":   func(s *authenticationv1.TokenReviewStatus) { s.Authenticated = false },
		"no audience":         func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil },
		"other audience":      func(s *authenticationv1.TokenReviewStatus) { s.Audiences = []string{"api"} },
		"no pod":              func(s *authenticationv1.TokenReviewStatus) { delete(s.User.Extra, extraPodName) },
		"no pod UID":          func(s *authenticationv1.TokenReviewStatus) { delete(s.User.Extra, extraPodUID) },
		"a person":            func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "shop:app" },
		"no namespace":        func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount::app" },
		"half a service name": func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount:shop" },
	} {
		s := goodStatus()
		spoil(&s)
		if i, good := identityFrom(&s); good {
			t.Errorf("%s: accepted as %+v", name, i)
		}
	}
}

func TestVerdictsAreBounded(t *testing.T) {
	now := time.Unix(0, 0)
	c := newVerdicts(3)
	for i := range 10 {
		c.put(tokenDigest{byte(i)}, verdict{identity: Identity{Pod: strconv.Itoa(i)}, good: true, until: now.Add(time.Minute)}, now)
	}
	if len(c.known) != 3 {
		t.Errorf("%d verdicts are kept, want 3", len(c.known))
	}
	if _, ok := c.get(tokenDigest{9}, now); !ok {
		t.Error("the latest is not kept")
	}
}

func TestReviewsArePaced(t *testing.T) {
	now := time.Unix(0, 0)
	reviews := &fakeReviews{} // nobody is who he says
	reviewer := NewTokenReviewer(reviews, func() time.Time { return now })
	ask := func(n int) (code codes.Code) { // garbage, which names no namespace
		_, err := reviewer.Authenticate(t.Context(), "a.b."+strconv.Itoa(n))
		return status.Code(err)
	}
	for n := range 2 * claimBurst {
		want := codes.Unauthenticated
		if n >= claimBurst {
			want = codes.Unavailable
		}
		if got := ask(n); got != want {
			t.Fatalf("token %d at once: %s, want %s", n, got, want)
		}
	}
	now = now.Add(time.Second)
	for n := range 2 * claimRate {
		ask(10_000 + n)
	}
	if want := claimBurst + claimRate; reviews.asked != want {
		t.Errorf("the API server was asked %d times, want %d", reviews.asked, want)
	}
	reviews.status = goodStatus()
	if _, err := reviewer.Authenticate(t.Context(), accountToken("shop")); err != nil {
		t.Errorf("a token of a namespace is put off by garbage: %v", err)
	}
}

// slowReviews answers once all callers are there.
type slowReviews struct {
	authenticationclient.TokenReviewInterface
	asked   atomic.Int64
	release chan struct{}
}

func (f *slowReviews) Create(context.Context, *authenticationv1.TokenReview, metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	f.asked.Add(1)
	<-f.release
	return &authenticationv1.TokenReview{Status: goodStatus()}, nil
}

// A dispatcher opens its streams at once: they share one review, whoever of them leaves first.
func TestCallsAtOnceShareAReview(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &slowReviews{release: make(chan struct{})}
		r := NewTokenReviewer(f, nil)
		first, leave := context.WithCancel(t.Context())
		results := make(chan error, 3)
		for _, ctx := range []context.Context{first, t.Context(), t.Context()} {
			go func() {
				_, err := r.Authenticate(ctx, "a.b.c")
				results <- err
			}()
		}
		synctest.Wait()
		leave()
		wantCode(t, <-results, codes.Unavailable)
		close(f.release)
		for range 2 {
			wantCode(t, <-results, codes.OK)
		}
		if got := f.asked.Load(); got != 1 {
			t.Errorf("the API server was asked %d times", got)
		}
	})
}
