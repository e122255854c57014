//! Backup and restore by the runbook's own commands, with a key that was compromised and a purchase that was made since.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::ExposeSecret;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::deployment::{Activated, Client, admin_token};
use crate::runbooks::{Scene, Section};
use crate::support::durable::durable_cluster;
use crate::support::follower::ClusterFolder;
use crate::support::program::{Deployment, answer};

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_restored_into_another_database_and_remembers_what_was_revoked_since() {
    let cluster = durable_cluster().await;
    let story = Story::begin(cluster.url().expose_secret());
    let section = Section::named("Back up, and restore into another database");
    let [back_up, restore, look] = section.steps();
    let (mut story, instance) = story.serve_and(|scene| scene.run(back_up)).await;

    let mut connection = PgConnection::connect(cluster.url().expose_secret()).await.unwrap();
    sqlx::query("create database restored").execute(&mut connection).await.unwrap();
    let restored = cluster.url().expose_secret().replace("/postgres?", "/restored?");
    assert_ne!(restored, cluster.url().expose_secret());
    story.scene.set("RESTORED", &restored);
    story.scene.run(restore);
    story.move_to(&restored);
    story.scene.run(look);
    story.recover_and_serve(&instance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_backup_is_restored_on_another_server_and_remembers_what_was_revoked_since() {
    let cluster = durable_cluster().await;
    let story = Story::begin(cluster.url().expose_secret());
    let section = Section::named("Back up, and restore the whole server");
    let [back_up, restore, look] = section.steps();
    let (mut story, instance) = story.serve_and(|scene| scene.run(back_up)).await;
    cluster.stop().await;

    let folder = ClusterFolder::new();
    story.scene.set("PGDATA", folder.data().to_str().unwrap());
    story.scene.run(restore);
    let server = folder.start().await;
    story.move_to(&server.url("postgres"));
    story.scene.run(look);
    story.recover_and_serve(&instance).await;
    tokio::task::spawn_blocking(move || server.stop()).await.unwrap().unwrap();
}

/// An operator, from the first backup to a service that answers again.
struct Story {
    scene: Scene,
}

impl Story {
    fn begin(database: &str) -> Self {
        let mut deployment = Deployment::on(&database.to_owned().into());
        let anchors = deployment.path("anchors");
        std::fs::create_dir(&anchors).unwrap();
        deployment.set("TOKEN_AUTHORITY_ANCHORS_DIR", anchors.to_str().unwrap());
        deployment.initialize();
        let mut scene = Scene::of(deployment);
        scene.put_first(&ClusterFolder::new().programs());
        scene.set("DATABASE", database);
        let backup = scene.deployment.path("backup");
        std::fs::create_dir(&backup).unwrap();
        scene.set("BACKUP", backup.to_str().unwrap());
        Self { scene }
    }

    /// An instance syncs, then `work` is done while the service goes on, and the instance syncs again.
    async fn serve_and(mut self, work: impl FnOnce(&Scene)) -> (Self, Activated) {
        let serving = self.scene.deployment.serve();
        let client = Client::new(&serving);
        let instance = client.activate(&admin_token(&self.scene.deployment)).await;
        client.sync(&instance).await;
        tokio::task::block_in_place(|| work(&self.scene));
        client.sync(&instance).await;
        self.compromise();
        // The service keeps what was signed where no restore reaches it.
        let begun = Instant::now();
        while !self.anchored().contains("\"serial\":1") {
            assert!(begun.elapsed() < Duration::from_secs(60), "no anchor: {}", self.anchored());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (self, instance)
    }

    /// What the backup does not know: the key that signed is revoked, a standby signs, and a new key set says so.
    fn compromise(&mut self) {
        let standby = self.scene.kid("published", "access_tokens");
        let run = |arguments: &[&str]| {
            answer(&self.scene.deployment.run(&[arguments, &["--format", "json"]].concat()))
        };
        run(&["keys", "arm", &standby]);
        let active = self.scene.kid("active", "access_tokens");
        run(&["keys", "compromise", &active, "--reason", "stolen", "--yes"]);
        run(&["keys", "publish"]);
        let newest = self.scene.deployment.path("newest.ndjson");
        let output = self.scene.deployment.run(&["audit", "export", "--output", newest.to_str().unwrap()]);
        assert!(output.status.success());
        self.scene.set("STANDBY", &standby);
    }

    /// What the deny list says that is kept outside.
    fn anchored(&self) -> String {
        let folder = self.scene.deployment.path("anchors");
        let file = [folder.join("staging/deny-list.jws"), folder.join("deny-list.jws")];
        let text = file.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        let payload = text.split('.').nth(1).unwrap_or_default();
        String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    fn move_to(&mut self, database: &str) {
        std::fs::write(self.scene.deployment.path("database_url"), database).unwrap();
        assert_eq!(self.scene.state("OLD"), "active", "the backup has forgotten that it was revoked");
    }

    /// Nothing is minted on the old copy, until it was told what it forgot.
    async fn recover_and_serve(&mut self, instance: &Activated) {
        let serving = self.scene.deployment.serve();
        let client = Client::new(&serving);
        let (status, ready) = client.get("/health/ready").await;
        assert_eq!(status, 503);
        assert!(ready.to_string().contains("safe mode"), "{ready}");
        let (refused, _) =
            client.post_as(instance, "/v1/sync", &serde_json::json!({"version": "18.5.0"})).await;
        assert_ne!(refused, 200, "an old copy mints nothing");

        let newest = self.scene.deployment.path("newest.ndjson");
        let recover = ["recover", "--audit", newest.to_str().unwrap(), "--format", "json"];
        answer(&self.scene.deployment.run(&recover));
        assert_eq!(self.scene.state("OLD"), "revoked");
        assert_eq!(self.scene.state("STANDBY"), "active");
        let (status, ready) = client.get("/health/ready").await;
        assert_eq!(status, 200, "{ready}");
        let synced: Value = client.sync(instance).await;
        let token = synced["tokens"][0]["token"].as_str().unwrap();
        let inspected = answer(&self.scene.deployment.run(&["token", "inspect", token, "--format", "json"]));
        let standby = self.scene.kid("active", "access_tokens");
        assert!(inspected.to_string().contains(&standby), "{inspected}");
    }
}
