// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	extraPodName = "authentication.kubernetes.io/pod-name"
	extraPodUID  = "authentication.kubernetes.io/pod-uid"

	maxTokenBytes = 16 << 10
	// acceptedFor bounds how long a pod that was deleted can open another stream.
	acceptedFor = time.Minute
	// refusedFor keeps a caller that repeats itself from the API server, and a token that becomes good from waiting.
	refusedFor = time.Second
	// reviewTimeout and maxReviews bound, with the pace of tokens, what callers can make us ask of the API server.
	reviewTimeout = 5 * time.Second
	maxReviews    = 32
)

// TokenReviewer asks the API server whose a token is. The token must be for our audience and bound to a pod, as a
// projected volume's is.
type TokenReviewer struct {
	reviews authenticationclient.TokenReviewInterface
	now     func() time.Time
	cache   *verdicts
	slots   chan struct{}
	pace    *TokenPace
	// flights has one review for all calls that a dispatcher opens at once.
	flights singleflight.Group
}

// NewTokenReviewer makes an Authenticator over the API server's TokenReview. now may be nil.
func NewTokenReviewer(reviews authenticationclient.TokenReviewInterface, now func() time.Time) *TokenReviewer {
	if now == nil {
		now = time.Now
	}
	return &TokenReviewer{reviews: reviews, now: now, cache: newVerdicts(maxVerdicts), slots: make(chan struct{}, maxReviews),
		pace: NewTokenPace()}
}

var errReviewUnavailable = status.Error(codes.Unavailable, "the token cannot be reviewed now")

// Authenticate fulfils Authenticator.
func (r *TokenReviewer) Authenticate(ctx context.Context, token string) (Identity, error) {
	if len(token) > maxTokenBytes || strings.Count(token, ".") != 2 {
		return Identity{}, errUnauthenticated // no JWT: the API server need not be asked
	}
	key := sha256.Sum256([]byte(token))
	if v, ok := r.cache.get(key, r.now()); ok {
		return v.answer()
	}
	flight := r.flights.DoChan(string(key[:]), func() (any, error) {
		return r.judge(context.WithoutCancel(ctx), token, key) // whoever came first may leave before the others
	})
	select {
	case <-ctx.Done():
		return Identity{}, errReviewUnavailable
	case landed := <-flight:
		if v, ok := landed.Val.(verdict); ok && landed.Err == nil {
			return v.answer()
		}
		return Identity{}, landed.Err
	}
}

// judge asks the API server, and keeps what it says.
func (r *TokenReviewer) judge(ctx context.Context, token string, key [sha256.Size]byte) (verdict, error) {
	if v, ok := r.cache.get(key, r.now()); ok {
		return v, nil // of a review that ended a moment ago
	}
	if !r.pace.Allow(token, r.now()) {
		return verdict{}, errReviewUnavailable
	}
	v, err := r.review(ctx, token)
	if err != nil {
		return verdict{}, err
	}
	v.until = r.now().Add(refusedFor)
	if v.good {
		v.until = r.now().Add(acceptedFor)
		r.pace.Good(token, r.now())
	}
	r.cache.put(key, v, r.now())
	return v, nil
}

func (r *TokenReviewer) review(ctx context.Context, token string) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return verdict{}, errReviewUnavailable
	}
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}}}
	answer, err := r.reviews.Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		// The error may quote the request, and so the token.
		return verdict{}, errReviewUnavailable
	}
	identity, good := identityFrom(&answer.Status)
	return verdict{identity: identity, good: good}, nil
}

// identityFrom reads the API server's answer. An authenticator that does not know audiences names none: not ours.
func identityFrom(s *authenticationv1.TokenReviewStatus) (Identity, bool) {
	if !s.Authenticated || !slices.Contains(s.Audiences, Audience) {
		return Identity{}, false
	}
	account, isAccount := strings.CutPrefix(s.User.Username, "system:serviceaccount:")
	namespace, name, whole := strings.Cut(account, ":")
	i := Identity{
		Namespace: namespace, ServiceAccount: name,
		Pod: only(s.User.Extra[extraPodName]), PodUID: only(s.User.Extra[extraPodUID]),
	}
	good := isAccount && whole && i.Namespace != "" && i.ServiceAccount != "" && i.Pod != "" && i.PodUID != ""
	return i, good
}

func only(values authenticationv1.ExtraValue) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}
