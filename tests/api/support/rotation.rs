//! An operator of a test's deployment, who works by the clock of the test.

use std::collections::BTreeSet;

use token_authority::domain::key_ring::{Algorithm, KeyState, Kid, Purpose, Waiver, WithoutStandby};
use token_authority::rotation::compromise::{self, Assessment, Ended};
use token_authority::rotation::generate::{Wanted, generate};
use token_authority::rotation::lifecycle::{self, Activated, Armed};
use token_authority::rotation::plan::{PlannedStep, plan};
use token_authority::rotation::publish::{NextKeySet, Published, PublishedSet, publish};
use token_authority::rotation::{RotationError, Site};
use token_authority::storage::{self, signing_keys};

use super::app::TestApp;

/// Whoever runs the commands for keys.
pub(crate) struct Operator<'a> {
    app: &'a TestApp,
    storage: storage::Database,
}

impl<'a> Operator<'a> {
    pub(crate) fn of(app: &'a TestApp) -> Self {
        Self { app, storage: app.deployment().database.storage() }
    }

    pub(crate) fn site(&self) -> Site<'_> {
        Site {
            database: &self.storage,
            environment: "development",
            kek: &*self.app.deployment().kek,
            clock: &self.app.clock,
            actor: "test",
        }
    }

    pub(crate) async fn generate(&self) -> Kid {
        self.generate_for(Algorithm::EdDsa).await
    }

    pub(crate) async fn generate_for(&self, alg: Algorithm) -> Kid {
        let wanted = Wanted { purpose: Purpose::AccessTokens, alg, not_after: None };
        generate(&self.site(), wanted).await.unwrap().kid
    }

    pub(crate) async fn publish(&self) -> PublishedSet {
        self.next_key_set(None, []).await.unwrap()
    }

    pub(crate) async fn retire(&self, kid: Kid) -> Result<PublishedSet, RotationError> {
        self.next_key_set(Some(BTreeSet::new()), [kid]).await
    }

    async fn next_key_set<const N: usize>(
        &self,
        adding: Option<BTreeSet<Kid>>,
        leaving: [Kid; N],
    ) -> Result<PublishedSet, RotationError> {
        let keys_dir = self.app.deployment().keys.path();
        let root_key_file = keys_dir.join("root.pem");
        let next =
            NextKeySet { adding, leaving: leaving.into(), keys_dir, root_key_file: Some(&root_key_file) };
        match publish(&self.site(), &next).await? {
            Published::Recorded(set) => Ok(set),
            Published::Drafted(draft) => panic!("the root is here, but this was drafted: {draft:?}"),
        }
    }

    pub(crate) async fn arm(&self, kid: Kid) -> Armed {
        lifecycle::arm(&self.site(), kid).await.unwrap()
    }

    pub(crate) async fn activate(&self, kid: Kid) -> Result<Activated, RotationError> {
        self.activate_past(kid, None).await
    }

    pub(crate) async fn activate_past(
        &self,
        kid: Kid,
        waiver: Option<Waiver>,
    ) -> Result<Activated, RotationError> {
        let site = self.site();
        let head = lifecycle::head(&site).await?;
        lifecycle::activate(&site, kid, head, waiver).await
    }

    pub(crate) async fn assess(&self, kid: Kid) -> Assessment {
        compromise::assess(&self.site(), &[kid].into(), &WithoutStandby::StopMinting).await.unwrap()
    }

    pub(crate) async fn compromise(&self, kid: Kid) -> Ended {
        let (site, kids) = (self.site(), [kid].into());
        compromise::compromise(&site, &kids, WithoutStandby::StopMinting, Some("leaked")).await.unwrap()
    }

    pub(crate) async fn plan(&self) -> Vec<PlannedStep> {
        let mut connection = self.storage.pool().acquire().await.unwrap();
        plan(&mut connection, "development", &self.app.clock).await.unwrap()
    }

    /// The access-token keys of this algorithm and state, in the order of their birth.
    pub(crate) async fn keys_of(&self, alg: Algorithm, state: KeyState) -> Vec<Kid> {
        let mut connection = self.storage.pool().acquire().await.unwrap();
        let keys = signing_keys::list(&mut connection, "development").await.unwrap();
        let keys = keys.iter().map(|listed| &listed.key).filter(|key| key.purpose == Purpose::AccessTokens);
        keys.filter(|key| key.alg == alg && key.state == state).map(|key| key.kid).collect()
    }

    /// The access-token keys in this state, in the order of their birth.
    pub(crate) async fn keys(&self, state: KeyState) -> Vec<Kid> {
        let mut connection = self.storage.pool().acquire().await.unwrap();
        let keys = signing_keys::list(&mut connection, "development").await.unwrap();
        let keys = keys.iter().map(|listed| &listed.key);
        keys.filter(|key| key.purpose == Purpose::AccessTokens && key.state == state)
            .map(|key| key.kid)
            .collect()
    }

    pub(crate) async fn active(&self) -> Kid {
        self.keys(KeyState::Active).await[0]
    }

    pub(crate) async fn state(&self, kid: Kid) -> KeyState {
        let mut connection = self.storage.pool().acquire().await.unwrap();
        let keys = signing_keys::list(&mut connection, "development").await.unwrap();
        keys.iter().find(|listed| listed.key.kid == kid).unwrap().key.state
    }
}
