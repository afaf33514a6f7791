//! `kubectl phx status`: a tree of the app, once or as it changes.

use std::{fmt::Debug, pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        batch::v1::Job,
        core::v1::{Pod, Service},
        discovery::v1::EndpointSlice,
    },
};
use kube::{
    Api, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _, reflector,
        reflector::Store,
        watcher::{self, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::{
    exit::Exit,
    gather::{Unread, gather, nothing},
    output::{self, Format},
    place::Cluster,
    render::render,
    view::{View, view_without},
};
use crate::{
    api::{PhoenixApp, labels},
    build::StoredRevision,
    controller::snapshot::Snapshot,
};

/// Events that come within this time are drawn together.
const TOGETHER: Duration = Duration::from_millis(100);
/// How often the ages on a terminal are drawn anew. Nothing is asked of the API server for it.
const AGES: Duration = Duration::from_secs(5);

/// Take over the screen and cut long lines; and the way back.
const ENTER: &str = "\x1b[?1049h\x1b[?7l\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?7h\x1b[?1049l";

/// Show the app as a tree: revisions and their pods, steps, migration, gates, and what it waits for.
#[derive(Debug, Args)]
pub struct Status {
    /// The app; absent: the only one of the namespace.
    app: Option<String>,
    /// Go on drawing as it changes, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
}

impl Status {
    /// Shows the app.
    ///
    /// # Errors
    /// When the app or its children cannot be read.
    pub async fn run(self, cluster: &Cluster, format: Format) -> Result<Exit> {
        let app = cluster.app(self.app.as_deref()).await?;
        if self.watch {
            if format != Format::Text {
                bail!(
                    "--watch draws for people; leave out --output, or use `kubectl get phx --watch -o json`"
                );
            }
            return Box::pin(follow(cluster, &app)).await;
        }
        let view = gather(cluster, app).await?.view();
        format.print(&view, || render(&view, output::colours()).join("\n"))?;
        Ok(Exit::Done)
    }
}

type News = Pin<Box<dyn Stream<Item = Result<(), watcher::Error>> + Send>>;

/// What is watched of an app.
struct Following {
    app: Store<PhoenixApp>,
    revisions: Maybe<StoredRevision>,
    deployments: Maybe<Deployment>,
    pods: Maybe<Pod>,
    migration_pods: Maybe<Pod>,
    services: Maybe<Service>,
    slices: Maybe<EndpointSlice>,
    jobs: Maybe<Job>,
    /// What is not watched, because it may not be listed.
    unread: Vec<Unread>,
}

/// A cache; none of what may not be listed.
struct Maybe<K: Resource<DynamicType = ()> + 'static>(Option<Store<K>>);

impl<K: Resource<DynamicType = ()> + Clone + 'static> Maybe<K> {
    async fn wait_until_ready(&self) -> Result<(), reflector::store::WriterDropped> {
        match &self.0 {
            Some(store) => store.wait_until_ready().await,
            None => Ok(()),
        }
    }

    fn state(&self) -> Vec<Arc<K>> {
        self.0.as_ref().map(Store::state).unwrap_or_default()
    }
}

impl Following {
    fn start(cluster: &Cluster, name: &str, unread: Vec<Unread>, news: &mut Vec<News>) -> Self {
        let itself = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let of_app = watcher::Config::default().labels(&format!("{}={name}", labels::APP));
        let of_migration = watcher::Config::default().labels(&format!("{}={name}", labels::MIGRATION));
        Self {
            app: store(cluster, itself, news),
            revisions: maybe(cluster, &of_app, &unread, news),
            deployments: maybe(cluster, &of_app, &unread, news),
            pods: maybe(cluster, &of_app, &unread, news),
            migration_pods: maybe(cluster, &of_migration, &unread, news),
            services: maybe(cluster, &of_app, &unread, news),
            slices: maybe(cluster, &of_app, &unread, news),
            jobs: maybe(cluster, &of_migration, &unread, news),
            unread,
        }
    }

    async fn ready(&self) -> Result<()> {
        let Self { app, revisions, deployments, pods, migration_pods, services, slices, jobs, unread: _ } =
            self;
        tokio::try_join!(
            app.wait_until_ready(),
            revisions.wait_until_ready(),
            deployments.wait_until_ready(),
            pods.wait_until_ready(),
            migration_pods.wait_until_ready(),
            services.wait_until_ready(),
            slices.wait_until_ready(),
            jobs.wait_until_ready(),
        )
        .map(drop)
        .context("the watches ended")
    }

    /// None when the app is gone.
    fn view(&self) -> Option<View> {
        let mut pods = self.pods.state();
        pods.extend(self.migration_pods.state());
        let app = self.app.state().first()?.as_ref().clone();
        let snapshot = Snapshot {
            revisions: self.revisions.state(),
            deployments: self.deployments.state(),
            pods,
            services: self.services.state(),
            slices: self.slices.state(),
            jobs: self.jobs.state(),
            ..nothing(app)
        };
        Some(view_without(&snapshot, &self.unread))
    }
}

/// A cache of what may be listed.
fn maybe<K>(cluster: &Cluster, config: &watcher::Config, unread: &[Unread], news: &mut Vec<News>) -> Maybe<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let readable = unread.iter().all(|one| one.kind != K::kind(&()));
    Maybe(readable.then(|| store(cluster, config.clone(), news)))
}

/// A cache that a watch fills, and news of each change.
fn store<K>(cluster: &Cluster, config: watcher::Config, news: &mut Vec<News>) -> Store<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let (reader, writer) = reflector::store();
    let changes = reflector(writer, watcher(api, config)).default_backoff().map(|event| event.map(drop));
    news.push(Box::pin(changes));
    reader
}

/// Draws as things change.
async fn follow(cluster: &Cluster, app: &PhoenixApp) -> Result<Exit> {
    let mut news = Vec::new();
    let unread = gather(cluster, app.clone()).await?.unread;
    let following = Following::start(cluster, &app.name_any(), unread, &mut news);
    let mut news = stream::select_all(news);
    let mut screen = Screen::open(output::on_terminal())?;
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    // The caches fill only while the news is taken.
    let filled = async {
        let mut ready = std::pin::pin!(following.ready());
        loop {
            tokio::select! {
                ready = &mut ready => return ready,
                event = news.next() => if let Some(Err(error)) = event { refused(&error)?; },
            }
        }
    };
    tokio::select! {
        filled = filled => filled?,
        _ = &mut stop => return screen.close().map(|()| Exit::Done),
    }
    let mut ages = tokio::time::interval(AGES);
    loop {
        let Some(view) = following.view() else {
            screen.close()?;
            bail!("PhoenixApp {}/{} is gone", cluster.namespace, app.name_any());
        };
        screen.draw(render(&view, output::colours()))?;
        tokio::select! {
            event = news.next() => {
                if let Some(Err(error)) = &event { refused(error)?; }
                let pause = tokio::time::sleep(TOGETHER);
                let mut pause = std::pin::pin!(pause);
                loop {
                    tokio::select! {
                        () = &mut pause => break,
                        event = news.next() => if let Some(Err(error)) = event { refused(&error)?; },
                        _ = &mut stop => return screen.close().map(|()| Exit::Done),
                    }
                }
            }
            _ = ages.tick(), if screen.terminal => {}
            _ = &mut stop => return screen.close().map(|()| Exit::Done),
        }
    }
}

/// A watch that may not be opened ends everything; any other trouble is waited out.
fn refused(error: &watcher::Error) -> Result<()> {
    if let watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error
        && status.code == 403
    {
        bail!("{}; the rights to list and to watch are needed", status.message);
    }
    Ok(())
}

/// Where it is drawn. On a terminal each drawing takes the place of the one before; else it follows it. Dropped, it
/// gives the terminal back.
struct Screen {
    terminal: bool,
    last: Vec<String>,
    open: bool,
}

impl Screen {
    fn open(terminal: bool) -> Result<Self> {
        if terminal {
            output::raw(ENTER)?;
        }
        Ok(Self { terminal, last: Vec::new(), open: true })
    }

    fn draw(&mut self, lines: Vec<String>) -> Result<()> {
        if lines == self.last {
            return Ok(());
        }
        self.last = lines;
        if self.terminal {
            output::raw(&drawing(&self.last))
        } else {
            output::line(&format!("{}\n", self.last.join("\n")))
        }
    }

    /// Gives the terminal back, with the last drawing left on it.
    fn close(&mut self) -> Result<()> {
        self.open = false;
        if self.terminal {
            output::raw(LEAVE)?;
            output::line(&self.last.join("\n"))?;
        }
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.open && self.terminal {
            let _ = output::raw(LEAVE);
        }
    }
}

/// PURE. Lines at their places, so that those that find no room below do not push the first ones out.
fn drawing(lines: &[String]) -> String {
    let placed = |(index, line): (usize, &String)| format!("\x1b[{};1H{line}\x1b[0m\x1b[K", index + 1);
    lines.iter().enumerate().map(placed).collect::<String>() + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::drawing;

    #[test]
    fn every_line_has_its_place_and_what_was_there_is_wiped() {
        let lines = ["a".to_owned(), "b".to_owned()];
        assert_eq!(drawing(&lines), "\x1b[1;1Ha\x1b[0m\x1b[K\x1b[2;1Hb\x1b[0m\x1b[K\x1b[J");
    }
}
