//! From a request to its answer.
//!
//! ```text
//! plan ─► profile ─► recall ─► merge ─► look up, admit ─► features ─► scores ─► variety, exploration ─► answer
//!                                                                                                         └► impression
//! ```
//!
//! Nothing on the way is an error to the caller. What is missing is left out and said: a user without
//! a profile gets what trends and what is new, ranked by the same ranker, whose features of the user
//! are then missing ones.

mod build;
mod fallback;
mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_features::{Context, Profile, Scores};
use millrace_index::Filter;
use millrace_retry::error_chain;
use millrace_schemas::{ProfileRead, ReadUpTo};

use crate::admission::Admission;
use crate::answer::{Answer, FallbackReason, Source, SourceRank};
use crate::catalog::cosine;
use crate::config::Rules;
use crate::deployments::Deployments;
use crate::merge::{Candidate, Merged, distinct, merge, reciprocal_rank};
use crate::rank::{self, Placed, Scored};
use crate::recall::{Found, Liked, Wanted, own_vector, recall};
use crate::recommender::{Core, now_ms};
use crate::request::{RecommendRequest, RequestError, RerankRequest};
use build::Answered;
use fallback::{fallback, ranking_failed};
use plan::Plan;

/// What is known of a user.
struct User {
    profile: Arc<Profile>,
    /// What it was computed from.
    read: Option<ProfileRead>,
    /// What they ask for the likes of, as far as it is known.
    like: Vec<Liked>,
    /// Why the answer can't be personal, where it can't.
    impersonal: Option<FallbackReason>,
}

/// Candidates as they were in one moment, and the moment.
struct LookedUp {
    candidates: Vec<Candidate>,
    context: Context,
    read_up_to: Vec<ReadUpTo>,
}

/// Candidates by their scores, the best first.
struct Ranked {
    scored: Vec<Scored>,
    /// Why they could not be scored, where they could not.
    problem: Option<String>,
    read_up_to: Vec<ReadUpTo>,
}

impl Core {
    pub async fn recommend(
        &self,
        request: RecommendRequest,
        deployments: &Deployments,
    ) -> Result<Answer, RequestError> {
        let started = Instant::now();
        request.validate(&self.config.limits)?;
        let (user_id, request_id) = (&request.user_id, &request.request_id);
        let scene = request.scene.as_deref();
        let instance = &request.instance;
        let plan = Plan::of(
            &self.config,
            deployments,
            instance,
            scene,
            user_id,
            request_id,
        )?;
        let count = request.count.unwrap_or(plan.scene.count);
        let now_ms = now_ms();
        let ready = self.catalog.is_ready();
        let mut user = self.user(user_id).await;
        user.like = self.liked(&request.like);
        let related = !user.like.is_empty();
        // The list is another one than was asked for.
        let unknown_items = !request.like.is_empty() && !related;

        let related_sources = plan.related_sources(count);
        let fallback_sources = plan.fallback_sources();
        let sources = match user.impersonal {
            _ if related => &related_sources,
            Some(_) => &fallback_sources,
            None => &plan.pipeline.sources,
        };
        let mut found = self
            .find(
                &plan,
                &user,
                sources,
                &plan.scene.rules,
                &request.filter,
                now_ms,
            )
            .await;
        let failed_sources = std::mem::take(&mut found.failed);
        let mut looked_up = self.admitted(
            &found,
            &plan,
            &user,
            &plan.scene.rules,
            &request.filter,
            now_ms,
        );
        let mut nothing = None;
        if looked_up.candidates.is_empty() {
            // Better what was seen before than nothing; whatever else may not be shown, may not.
            nothing = Some(FallbackReason::NoCandidates);
            let rules = Rules {
                exclude_seen: false,
                ..plan.scene.rules.clone()
            };
            let index_failed = found.index_failed;
            found = self
                .find(
                    &plan,
                    &user,
                    &fallback_sources,
                    &rules,
                    &request.filter,
                    now_ms,
                )
                .await;
            found.index_failed = index_failed;
            looked_up = self.admitted(&found, &plan, &user, &rules, &request.filter, now_ms);
        }
        // It alone explains an empty list, whatever else is missing.
        let filtered = looked_up.candidates.is_empty()
            && request.filter != Filter::default()
            && !found.index_failed;
        let reasons = [
            (!ready).then_some(FallbackReason::CatalogNotReady),
            filtered.then_some(FallbackReason::NothingPassesTheFilter),
            unknown_items.then_some(FallbackReason::UnknownItems),
            user.impersonal.filter(|reason| {
                // What is like given items needs no profile to be found.
                !related || *reason == FallbackReason::ProfilesUnavailable
            }),
            found
                .index_failed
                .then_some(FallbackReason::IndexUnavailable),
            nothing,
        ];
        let reason = reasons.into_iter().flatten().next();

        let Ranked {
            scored,
            problem,
            read_up_to,
        } = self.ranked(looked_up, &found, &plan, &user, now_ms);
        let exploration = &self.config.exploration;
        let placed = rank::arrange(request_id, scored, count, &plan.pipeline, exploration);
        let reason = reason.or_else(|| ranking_failed(problem));
        let answered = Answered {
            request_id: request.request_id,
            user_id: request.user_id,
            plan,
            fallback: reason.map(|reason| fallback(reason, &placed)),
            placed,
            unknown: Vec::new(),
            failed_sources,
            read_up_to,
            profile: user.read,
            explain: request.explain,
            preview: request.preview,
            served_at_ms: now_ms,
        };
        Ok(self.answer(answered, request.traceparent, started))
    }

    pub async fn rerank(
        &self,
        request: RerankRequest,
        deployments: &Deployments,
    ) -> Result<Answer, RequestError> {
        let started = Instant::now();
        request.validate(&self.config.limits)?;
        let (user_id, request_id) = (&request.user_id, &request.request_id);
        let scene = request.scene.as_deref();
        let instance = &request.instance;
        let plan = Plan::of(
            &self.config,
            deployments,
            instance,
            scene,
            user_id,
            request_id,
        )?;
        let now_ms = now_ms();
        let ready = self.catalog.is_ready();
        let user = self.user(user_id).await;

        // By the caller's own score where there is one, else as they came; each item once.
        let mut given = request.candidates;
        let score = |score: Option<f32>| score.unwrap_or(f32::NEG_INFINITY);
        given.sort_by(|a, b| score(b.score).total_cmp(&score(a.score)));
        let mut named = BTreeSet::new();
        given.retain(|item| named.insert(item.item_id.clone()));
        let merged: Vec<Merged> = (1..)
            .zip(&given)
            .map(|(rank, item)| Merged {
                item_id: item.item_id.clone(),
                score: reciprocal_rank(rank),
                sources: vec![SourceRank {
                    source: Source::Candidates,
                    rank,
                    score: item.score.map_or(reciprocal_rank(rank), f64::from),
                }],
            })
            .collect();
        let looked_up = self.look_up(merged, user_id, now_ms, |_| true);
        let known: BTreeSet<&str> = looked_up
            .candidates
            .iter()
            .map(|candidate| candidate.item.signal.item_id.as_str())
            .collect();
        let unknown: Vec<String> = given
            .iter()
            .filter(|item| !known.contains(item.item_id.as_str()))
            .map(|item| item.item_id.clone())
            .collect();
        // No source has found them: there are no scores but the caller's order.
        let Ranked {
            scored,
            problem,
            read_up_to,
        } = self.ranked(looked_up, &Found::default(), &plan, &user, now_ms);
        let placed: Vec<Placed> = scored
            .into_iter()
            .map(|scored| Placed {
                scored,
                explored: false,
                propensity: 1.0,
            })
            .collect();
        let not_ready = (!ready).then_some(FallbackReason::CatalogNotReady);
        let reason = not_ready
            .or(user.impersonal)
            .or_else(|| ranking_failed(problem));
        let answered = Answered {
            request_id: request.request_id,
            user_id: request.user_id,
            plan,
            fallback: reason.map(|reason| fallback(reason, &placed)),
            placed,
            unknown,
            failed_sources: Vec::new(),
            read_up_to,
            profile: user.read,
            explain: request.explain,
            preview: false,
            served_at_ms: now_ms,
        };
        Ok(self.answer(answered, request.traceparent, started))
    }

    /// The candidates by the plan's ranker, from their features.
    fn ranked(
        &self,
        looked_up: LookedUp,
        found: &Found,
        plan: &Plan,
        user: &User,
        now_ms: i64,
    ) -> Ranked {
        let LookedUp {
            candidates,
            context,
            read_up_to,
        } = looked_up;
        let own = own_vector(&user.profile, now_ms);
        let nearness = |candidate: &Candidate| {
            let vector = &candidate.item.signal.vector;
            let of_given = user
                .like
                .iter()
                .filter_map(|(_, given)| cosine(given, vector));
            let of_given = of_given.reduce(f32::max);
            of_given.or_else(|| cosine(own.as_deref()?, vector))
        };
        let scores = |candidate: &Candidate| {
            let id = candidate.item.signal.item_id.as_str();
            Scores {
                text: found.text.get(id).copied(),
                vector: nearness(candidate),
                hybrid: found.hybrid.get(id).copied(),
                rank: Some(candidate.merge_score as f32),
            }
        };
        let rows = rank::rows(
            &self.features,
            &user.profile,
            &candidates,
            &scores,
            &context,
        );
        let (scored, problem) = rank::score(&plan.ranker, candidates, &rows, self.features.len());
        Ranked {
            scored,
            problem,
            read_up_to,
        }
    }

    /// The user's profile, in this process's embedding; an empty one where there is none.
    async fn user(&self, user_id: &str) -> User {
        let limit = Duration::from_millis(self.config.limits.profile_timeout_ms);
        let nobody = |reason| User {
            profile: Arc::new(Profile::new(user_id, &self.embedding_version)),
            read: None,
            like: Vec::new(),
            impersonal: Some(reason),
        };
        let mut profile = match tokio::time::timeout(limit, self.profiles.get(user_id)).await {
            Ok(Ok(Some(profile))) => profile,
            Ok(Ok(None)) => return nobody(FallbackReason::UnknownUser),
            Ok(Err(error)) => {
                let error = error_chain(&*error);
                tracing::warn!(error, "a profile can't be read; answering without it");
                return nobody(FallbackReason::ProfilesUnavailable);
            }
            Err(_) => {
                tracing::warn!(?limit, "a profile took too long; answering without it");
                return nobody(FallbackReason::ProfilesUnavailable);
            }
        };
        if profile.model_version() != self.embedding_version {
            // As the present encoder sees what the user acted on.
            let inner = self.catalog.read();
            let vector = |item_id: &str| {
                let item = inner.table.get(item_id)?;
                Some(item.signal.vector.clone())
            };
            profile = Arc::new(profile.rebuilt(&self.embedding_version, vector));
        }
        let comparable = profile.long_term().is_some() || !profile.interest_terms(1).is_empty();
        User {
            read: read(&profile),
            profile,
            like: Vec::new(),
            impersonal: (!comparable).then_some(FallbackReason::ColdUser),
        }
    }

    /// The given items that are known, each once.
    fn liked(&self, item_ids: &[String]) -> Vec<Liked> {
        let inner = self.catalog.read();
        let distinct: BTreeSet<&String> = item_ids.iter().collect();
        let known = distinct.into_iter().filter_map(|item_id| {
            let item = inner.table.get(item_id)?;
            let vector = item.signal.vector.clone();
            (!vector.is_empty()).then(|| (item_id.clone(), vector))
        });
        known.collect()
    }

    async fn find(
        &self,
        plan: &Plan,
        user: &User,
        sources: &std::collections::BTreeMap<Source, crate::config::SourceConfig>,
        rules: &Rules,
        caller: &Filter,
        now_ms: i64,
    ) -> Found {
        let admission = Admission {
            profile: Some(&user.profile),
            rules,
            caller,
            now_ms,
        };
        let wanted = Wanted {
            sources,
            profile: user.impersonal.is_none().then_some(&*user.profile),
            like: &user.like,
            admission: &admission,
            weights: plan.weights,
            embedding_version: &self.embedding_version,
            scan_items: self.config.catalog.scan_items,
        };
        recall(&self.catalog, &self.index, &wanted).await
    }

    /// What was found and may be shown, each text once.
    fn admitted(
        &self,
        found: &Found,
        plan: &Plan,
        user: &User,
        rules: &Rules,
        caller: &Filter,
        now_ms: i64,
    ) -> LookedUp {
        let admission = Admission {
            profile: Some(&user.profile),
            rules,
            caller,
            now_ms,
        };
        let mut looked_up = self.look_up(
            merge(&found.lists),
            user.profile.user_id(),
            now_ms,
            |candidate| admission.admits(&candidate.item.signal),
        );
        looked_up.candidates = distinct(looked_up.candidates, plan.pipeline.candidates);
        looked_up
    }

    /// The items as they are in one moment, with what all items did until then.
    fn look_up(
        &self,
        merged: Vec<Merged>,
        user_id: &str,
        now_ms: i64,
        admits: impl Fn(&Candidate) -> bool,
    ) -> LookedUp {
        let inner = self.catalog.read();
        let candidates = merged.into_iter().filter_map(|merged| {
            let candidate = Candidate {
                item: inner.table.get(&merged.item_id)?,
                sources: merged.sources,
                merge_score: merged.score,
            };
            admits(&candidate).then_some(candidate)
        });
        LookedUp {
            candidates: candidates.collect(),
            context: Context {
                user_fields: inner.users.fields(user_id),
                ..self.catalog.context(&inner, now_ms)
            },
            read_up_to: inner.read_up_to(),
        }
    }
}

/// What a profile says of where it comes from.
fn read(profile: &Profile) -> Option<ProfileRead> {
    let position = profile.position()?;
    Some(ProfileRead {
        partition: position.partition,
        offset: position.offset,
        events: i64::try_from(profile.events()).unwrap_or(i64::MAX),
        rebuilt: profile.is_rebuilt(),
    })
}
