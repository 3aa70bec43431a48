use std::time::Duration;

use lab::app::{self, About, FloodOptions, HoldEnd, HoldOptions, ServeOptions, StreamOptions};

use crate::args::AppCommand;
use crate::print;

/// Runs one of the test application's commands; its exit code.
pub(crate) async fn run(command: AppCommand) -> u8 {
    match command {
        AppCommand::Serve { port, reset_after } => {
            let options = ServeOptions {
                ports: port,
                reset_after,
                about: About::from_environment(),
            };
            let stopped = async {
                let mut signal =
                    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok()?;
                signal.recv().await
            };
            tokio::select! {
                served = app::serve(options) => {
                    let Err(error) = served;
                    eprintln!("ztctl app serve: {error}");
                    3
                }
                _ = stopped => 0,
                _ = tokio::signal::ctrl_c() => 0,
            }
        }
        AppCommand::Get { url, timeout } => get(&url, timeout).await,
        AppCommand::Stream {
            address,
            bytes,
            connections,
            seed,
            timeout,
        } => {
            let report = app::stream(&StreamOptions {
                address,
                bytes,
                connections,
                seed,
                timeout,
            })
            .await;
            print::json(&report);
            u8::from(!report.errors.is_empty())
        }
        AppCommand::Hold {
            address,
            interval,
            at_most,
            lines,
            reset,
        } => {
            let options = HoldOptions {
                address,
                interval,
                at_most,
                lines,
                reset,
            };
            let connected = |connection: &tokio::net::TcpStream| {
                let local = connection
                    .local_addr()
                    .map(|address| address.to_string())
                    .unwrap_or_default();
                print::line(&format!("{{\"connected\":\"{local}\"}}"));
            };
            match app::hold(&options, connected).await {
                Ok(report) => {
                    print::json(&report);
                    u8::from(report.ended == HoldEnd::Other)
                }
                Err(error) => {
                    eprintln!("ztctl app hold: {}: {error}", options.address);
                    1
                }
            }
        }
        AppCommand::Flood {
            address,
            duration,
            concurrency,
            timeout,
        } => {
            let report = app::flood(&FloodOptions {
                address,
                duration,
                concurrency,
                timeout,
            })
            .await;
            print::json(&report);
            u8::from(report.answered == 0)
        }
    }
}

async fn get(url: &str, timeout: Duration) -> u8 {
    match app::get(url, timeout).await {
        Ok((status, body)) => {
            print::bytes(&body);
            if status.is_success() {
                return 0;
            }
            eprintln!("ztctl app get: {url} answered {status}");
            1
        }
        Err(error) => {
            eprintln!("ztctl app get: {error}");
            1
        }
    }
}
