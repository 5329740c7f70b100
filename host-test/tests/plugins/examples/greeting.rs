//! SDK plugin with a root context: its configuration becomes a response header; an empty one is refused. It counts its
//! ticks and prints through the standard library.

use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root { greeting: String::new(), ticks: 0 }));
}}

struct Root {
    greeting: String,
    ticks: u32,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        self.greeting = String::from_utf8_lossy(&bytes).into_owned();
        if self.greeting.is_empty() {
            eprintln!("a greeting is needed");
            return false;
        }
        println!("greeting with {} at home in {:?}", self.greeting, std::env::var("HOME_TOWN"));
        self.set_tick_period(Duration::from_millis(100));
        true
    }

    fn on_tick(&mut self) {
        self.ticks += 1;
        println!("{} tick {}", self.greeting, self.ticks);
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Greeter { greeting: self.greeting.clone() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Greeter {
    greeting: String,
}

impl Context for Greeter {}

impl HttpContext for Greeter {
    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.add_http_response_header("x-greeting", &self.greeting);
        Action::Continue
    }
}
