//! temporary
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
use model::{bounds::Bounds, system::System};
use stateright::{Checker, Model};
fn main() {
    let mut b = Bounds::QUICK;
    for arg in std::env::args().skip(1) {
        let (k, v) = arg.split_once('=').unwrap();
        let n: u8 = v.parse().unwrap();
        match k {
            "w" => b.writes = n,
            "e" => b.epochs = n,
            "c" => b.crashes = n,
            "s" => b.lost_sessions = n,
            "r" => b.rollbacks = n,
            "y" => b.slow_syncs = n,
            "n" => b.replicas = n,
            "q" => b.quorum = n,
            "none" => b.fencing = kv_core::Fencing::None,
            "d" => b.reduces = n == 1,
            "rd" => b.reads = n,
            "sym" => {}
            _ => panic!(),
        }
    }
    let start = std::time::Instant::now();
    let system = System::new(b).unwrap();
    let marks = system.marks.clone();
    let checker = system
        .checker()
        .threads(2)
        .symmetry_fn(model::symmetry::representative)
        .finish_when(stateright::HasDiscoveries::AnyFailures)
        .timeout(std::time::Duration::from_secs(
            std::env::var("T").map_or(100, |t| t.parse().unwrap()),
        ))
        .spawn_dfs()
        .join();
    println!(
        "{:?} states {} unique {} depth {} {:.1}s {:.0}/s",
        b,
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64(),
        checker.state_count() as f64 / start.elapsed().as_secs_f64()
    );
    for m in model::marks::Mark::ALL {
        println!("  {} {}", m.name(), marks.count(m));
    }
    for (name, path) in checker.discoveries() {
        if model::ledger::Promise::ALL.iter().any(|p| p.name() == name) {
            println!("{name}");
            for a in path.into_actions() {
                println!("   {a}");
            }
        }
    }
}
