import AdminHTTP
import Foundation
import Postgres
import Processes
import Telemetry

/// `reeve serve`: all databases of the estate, the HTTP server, and an orderly end.
struct Service: Sendable {
    let configuration: Configuration
    let logger: Logger

    /// Runs until SIGTERM or SIGINT; a second signal ends it at once.
    func run() async throws {
        let signals = try Signals.stream([SIGTERM, SIGINT])
        for name in configuration.store.unknownVariables.keys.sorted() {
            logger.warning("a variable names no key of the configuration", [LogField("name", name)])
        }
        let metrics = ServiceMetrics()
        let readiness = Readiness()
        readiness.set("service", false, "is starting")
        let server = try startServer(metrics, readiness)
        let estate = Estate(configuration: configuration, logger: logger)
        var services: [DatabaseService] = []
        for one in configuration.databases {
            let open = try await estate.open(one)
            services.append(
                try DatabaseService(
                    open, configuration: configuration, metrics: metrics, readiness: readiness, logger: logger))
        }
        readiness.set("service", true, "runs")
        logger.info(
            "ready to serve", [LogField("databases", services.count), LogField("version", ReeveProgram.version)])
        let work = Task { [services] in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for service in services { group.addTask { try await service.run() } }
                try await group.waitForAll()
            }
        }
        let draining = Task { [services] in
            try await drain(on: signals, work, services, readiness)
        }
        defer { draining.cancel() }
        do {
            try await work.value
        } catch is CancellationError {
            // The way in which it ends after a signal.
        }
        for service in services { await service.close() }
        server?.stop()
        logger.info("stopped")
    }

    private func drain(
        on signals: AsyncStream<Int32>, _ work: Task<Void, any Error>, _ services: [DatabaseService],
        _ readiness: Readiness
    ) async throws {
        var seen = 0
        for await signal in signals {
            seen += 1
            if seen > 1 { _exit(128 + signal) }
            logger.info("stopping; work that runs may end", [LogField("signal", signal)])
            readiness.set("service", false, "is stopping")
            work.cancel()
            let limit = configuration.store.duration("drain") ?? .seconds(30)
            Task {
                try await Task.sleep(for: limit)
                logger.warning("work that did not end in time is cancelled")
                for service in services { service.stopRunning() }
            }
        }
    }

    private func startServer(_ metrics: ServiceMetrics, _ readiness: Readiness) throws -> AdminServer? {
        guard let address = ListenAddress(configuration.store.text("http.listen") ?? "off") else { return nil }
        let server = try AdminServer(address, routes: Self.routes(metrics, readiness), logger: logger)
        logger.info("serving /metrics, /livez and /readyz", [LogField("address", server.address)])
        return server
    }

    static func routes(_ metrics: ServiceMetrics, _ readiness: Readiness) -> [Route] {
        [
            Route("GET", "/livez") { _ in HTTPResponse(contentType: "text/plain; charset=utf-8", body: "ok\n") },
            Route("GET", "/readyz") { readiness.answer(verbose: $0.query["verbose"] != nil) },
            Route("GET", "/metrics") { request in
                metrics.scrapes.increment()
                let accepts = request.headers["accept"] ?? ""
                let format: ExpositionFormat = accepts.contains("application/openmetrics-text") ? .openMetrics : .text
                return HTTPResponse(contentType: format.contentType, body: format.render(metrics.registry.snapshot()))
            },
        ]
    }
}

/// `reeve serve`
enum ServeCommand {
    static let spec = CommandSpec(
        noun: "serve", verb: nil, summary: "run the schedule, and serve metrics, until stopped",
        discussion: "Works on every configured database; without one, on a PostgreSQL of its own under the state "
            + "folder. SIGTERM or SIGINT lets work that runs end, within the setting 'drain'; a second one stops at once."
    ) { invocation in
        let configuration = try invocation.configuration()
        let logger = configuration.logger(
            verbose: invocation.has("verbose"), isTerminal: isatty(STDERR_FILENO) == 1,
            colour: invocation.console.usesColour)
        try await Service(configuration: configuration, logger: logger).run()
        return .done
    }
}
