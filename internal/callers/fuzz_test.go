// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package callers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// says is an API server that says the same of every token.
type says struct {
	authenticationclient.TokenReviewInterface
	authorizationclient.SubjectAccessReviewInterface
	username string
	asked    []authorizationv1.ResourceAttributes
}

type reviews struct{ *says }

func (r reviews) Create(_ context.Context, review *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	answer := review.DeepCopy()
	answer.Status = authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{v1alpha1.EventsAudience},
		User: authenticationv1.UserInfo{Username: r.username}}
	return answer, nil
}

type access struct{ *says }

func (a access) Create(_ context.Context, review *authorizationv1.SubjectAccessReview, _ metav1.CreateOptions) (*authorizationv1.SubjectAccessReview, error) {
	a.asked = append(a.asked, *review.Spec.ResourceAttributes)
	answer := review.DeepCopy()
	answer.Status.Allowed = true
	return answer, nil
}

type unpaced struct{}

func (unpaced) Allow(string, time.Time) bool { return true }
func (unpaced) AllowKnown(time.Time) bool    { return true }
func (unpaced) Good(string, time.Time)       {}

// FuzzAdmit: a caller is let in for the namespace that was judged alone, which is never an empty one, and no error tells
// the token.
func FuzzAdmit(f *testing.F) {
	f.Add("a.b.c", "", "system:serviceaccount:shop:app")
	f.Add("a.b.c", "warehouse", "system:serviceaccount:shop:app")
	f.Add("a.b.c", "", "system:serviceaccount::app")
	f.Add("a.b.c", "", "system:serviceaccount:shop")
	f.Add("a.b.c", "", "jane")
	f.Add("hunter2", "shop", "jane")
	f.Add("..", "shop\x00x", "")
	f.Fuzz(func(t *testing.T, token, named, username string) {
		server := &says{username: username}
		c := New(reviews{server}, access{server}, unpaced{}, func() time.Time { return time.Unix(1_700_000_000, 0) })
		namespace, err := c.Admit(t.Context(), token, named)
		if err != nil {
			if !errors.Is(err, ErrUnauthenticated) && !errors.Is(err, ErrNoNamespace) || len(server.asked) > 0 {
				t.Errorf("the error is %v after %d questions", err, len(server.asked))
			}
			return
		}
		if namespace == "" || len(server.asked) != 1 || server.asked[0].Namespace != namespace {
			t.Fatalf("it is let in for %q, and %+v was asked", namespace, server.asked)
		}
		if named != "" && namespace != named {
			t.Errorf("it named %q and is let in for %q", named, namespace)
		}
		if named == "" && !strings.HasPrefix(username, "system:serviceaccount:"+namespace+":") {
			t.Errorf("%q is let in for %q", username, namespace)
		}
		if strings.Count(token, ".") != 2 {
			t.Errorf("the API server was asked about %q", token)
		}
	})
}
