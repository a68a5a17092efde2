// Copyright The webhook-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package callers asks the API server whose a producer's token is and whether it may post events in a namespace. It has
// no commit point. No token is kept: verdicts are remembered for a short time by digest, and no error quotes one.
//
// What callers can make us ask is bounded by a Pace, with a share of their own for those who were admitted before.
package callers

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"

	"github.com/garyclub/webhook-operator/api/v1alpha1"
)

// verb is what a caller needs the right to do with v1alpha1.ResourceEvents.
const verb = "create"

const (
	maxTokenBytes = 16 << 10
	// admittedFor bounds how long a right that was taken away, or a pod that was deleted, still counts; refusedFor keeps a
	// caller that repeats itself from the API server, and a right that was given from waiting.
	admittedFor = time.Minute
	refusedFor  = time.Second
	// rememberedFor is how long a caller that was admitted is asked about before strangers are.
	rememberedFor = 10 * time.Minute
	maxVerdicts   = 10_000

	// reviewTimeout and maxReviews bound one question and how many are under way.
	reviewTimeout = 5 * time.Second
	maxReviews    = 32
)

// Errors of Admit. None says anything of the token.
var (
	// ErrUnauthenticated: the token is not one of our audience.
	ErrUnauthenticated = errors.New("the caller is not known")
	// ErrForbidden: the caller has no right to create webhookevents in the namespace.
	ErrForbidden = errors.New("the caller may not post events in the namespace")
	// ErrNoNamespace: none was named, and the caller is no service account, which would have one.
	ErrNoNamespace = errors.New("the caller has no namespace of its own")
	// ErrUnavailable: it cannot be told now.
	ErrUnavailable = errors.New("callers cannot be reviewed now")
)

// Pace bounds the questions, so that a flood of bad tokens, or those of one namespace, do not shut others out.
type Pace interface {
	// Allow says whether a token may be asked about that nobody has seen.
	Allow(token string, now time.Time) bool
	// AllowKnown says whether one may be asked about again that was good.
	AllowKnown(now time.Time) bool
	// Good notes that a token was good: the next one of its kind is no stranger's.
	Good(token string, now time.Time)
}

// Callers judges callers.
type Callers struct {
	reviews authenticationclient.TokenReviewInterface
	access  authorizationclient.SubjectAccessReviewInterface
	now     func() time.Time

	cache   *cache.LRUExpireCache
	flights singleflight.Group
	slots   chan struct{}
	pace    Pace
}

// New makes Callers over the API server's reviews. now may be nil.
func New(reviews authenticationclient.TokenReviewInterface, access authorizationclient.SubjectAccessReviewInterface,
	pace Pace, now func() time.Time) *Callers {
	if now == nil {
		now = time.Now
	}
	return &Callers{reviews: reviews, access: access, now: now, cache: cache.NewLRUExpireCacheWithClock(maxVerdicts, clock(now)),
		slots: make(chan struct{}, maxReviews), pace: pace}
}

type clock func() time.Time

func (c clock) Now() time.Time { return c() }

// verdict is what the API server said.
type verdict struct {
	namespace string
	err       error // ErrUnauthenticated, ErrForbidden or ErrNoNamespace; nil when the caller is admitted
	until     time.Time
}

type digest = [sha256.Size]byte

// Admit says in which namespace the caller posts: the one that is named, or its service account's own. With ErrForbidden
// it says for which one the right is missing.
func (c *Callers) Admit(ctx context.Context, token, namespace string) (string, error) {
	if len(token) > maxTokenBytes || strings.Count(token, ".") != 2 {
		return "", ErrUnauthenticated // no JWT: the API server need not be asked
	}
	key := digest(sha256.Sum256([]byte(namespace + "\x00" + token))) // no namespace has a zero byte
	known := false
	if found, ok := c.cache.Get(key); ok {
		v := found.(verdict)
		if c.now().Before(v.until) {
			return v.namespace, v.err
		}
		known = true
	}
	v, err := c.ask(ctx, key, known, token, namespace)
	if err != nil {
		return "", err
	}
	return v.namespace, v.err
}

// ask has one question under way for all who ask the same at once. It outlives the request that began it.
func (c *Callers) ask(ctx context.Context, key digest, known bool, token, namespace string) (verdict, error) {
	answers := c.flights.DoChan(string(key[:]), func() (any, error) {
		if !c.allow(token, known) {
			return nil, ErrUnavailable
		}
		v, err := c.review(context.WithoutCancel(ctx), token, namespace)
		if err == nil {
			c.remember(key, token, v)
		}
		return v, err
	})
	select {
	case answer := <-answers:
		if answer.Err != nil {
			return verdict{}, answer.Err
		}
		return answer.Val.(verdict), nil
	case <-ctx.Done():
		return verdict{}, ErrUnavailable
	}
}

func (c *Callers) allow(token string, known bool) bool {
	if known {
		return c.pace.AllowKnown(c.now())
	}
	return c.pace.Allow(token, c.now())
}

func (c *Callers) remember(key digest, token string, v verdict) {
	kept := refusedFor
	v.until = c.now().Add(refusedFor)
	if v.err == nil {
		kept, v.until = rememberedFor, c.now().Add(admittedFor)
		c.pace.Good(token, c.now())
	}
	c.cache.Add(key, v, kept)
}

func (c *Callers) review(ctx context.Context, token, namespace string) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return verdict{}, ErrUnavailable
	}
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{v1alpha1.EventsAudience}}}
	answer, err := c.reviews.Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return verdict{}, ErrUnavailable // the error may quote the request, and so the token
	}
	if !answer.Status.Authenticated || !slices.Contains(answer.Status.Audiences, v1alpha1.EventsAudience) {
		return verdict{err: ErrUnauthenticated}, nil
	}
	if namespace == "" {
		if namespace = namespaceOf(answer.Status.User.Username); namespace == "" {
			return verdict{err: ErrNoNamespace}, nil
		}
	}
	return c.authorize(ctx, answer.Status.User, namespace)
}

// namespaceOf is the namespace of a service account; empty for others.
func namespaceOf(username string) string {
	account, isAccount := strings.CutPrefix(username, "system:serviceaccount:")
	namespace, _, whole := strings.Cut(account, ":")
	if !isAccount || !whole {
		return ""
	}
	return namespace
}

func (c *Callers) authorize(ctx context.Context, user authenticationv1.UserInfo, namespace string) (verdict, error) {
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for name, values := range user.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: namespace, Verb: verb, Group: v1alpha1.GroupVersion.Group, Resource: v1alpha1.ResourceEvents,
		},
	}}
	answer, err := c.access.Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return verdict{}, ErrUnavailable
	}
	if !answer.Status.Allowed {
		return verdict{namespace: namespace, err: ErrForbidden}, nil
	}
	return verdict{namespace: namespace}, nil
}
