import Foundation
import TestSupport
import Testing

@testable import Postgres

/// Which hosts a connection is tried with, and what becomes of names.
@Suite(.timeLimit(.minutes(1)))
struct HostResolutionTests {
    @Test func `names get their addresses beside them, in their place`() throws {
        var list = try #require(HostList(host: "a,/run,10.0.0.1,b,::1,,c", address: "", port: "1,2,3,4,5,6,7"))
        #expect(list.names == ["a", "b", "c"])
        list.set(["10.1.1.1", "fe80::1"], of: "a")
        list.set([], of: "b")
        list.set(["10.1.1.2"], of: "c")
        #expect(
            list.parameters == [
                "host": "a,a,/run,10.0.0.1,::1,,c", "hostaddr": "10.1.1.1,fe80::1,,,,,10.1.1.2",
                "port": "1,1,2,3,5,6,7",
            ])
    }

    @Test func `an address that is given is not looked for`() throws {
        let list = try #require(HostList(host: "a,b", address: "10.0.0.1,", port: "5432"))
        #expect(list.names == ["b"])
        #expect(HostList(host: "", address: "10.0.0.1,10.0.0.2", port: "")?.names == [])
        #expect(HostList(host: "", address: "", port: "")?.entries.count == 1)
    }

    @Test func `what does not fit together is left to libpq, which says why`() async throws {
        #expect(HostList(host: "a,b,c", address: "1,2", port: "") == nil)
        #expect(HostList(host: "a,b", address: "", port: "1,2,3") == nil)
        let error = await #expect(throws: PostgresError.self) {
            try await Connection.open(ConnectionSettings(connectionString: "host=a,b port=1,2,3"))
        }
        #expect(error?.message.contains("could not match 3 port numbers to 2 hosts") == true)
    }

    @Test func `hosts come from a service file as well`() throws {
        let folder = "/tmp/reeve-service-\(UUID().uuidString.prefix(8))"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try "[mine]\nhost=db.example\nport=7\n".write(toFile: "\(folder)/f", atomically: true, encoding: .utf8)
        setenv("PGSERVICEFILE", "\(folder)/f", 1)
        defer { unsetenv("PGSERVICEFILE") }
        let list = try #require(try HostList(["service": "mine"], logger: .silent))
        #expect(list.entries == [HostList.Entry(host: "db.example", address: "", port: "7")])
    }
}

/// By name, as with a real server.
@Suite(.database, .timeLimit(.minutes(1)))
struct NamedHostTests {
    @Test func `a name that nobody knows is passed over and told`() async throws {
        var settings = try TestDatabase.current.settings
        let real = settings.parameters["host"] ?? ""
        settings.parameters["host"] = "nobody.invalid,\(real)"
        let found: Int = try await Connection.opened(settings) { try await $0.value("SELECT 1") }
        #expect(found == 1)
        settings.parameters["host"] = "nobody.invalid"
        let error = await #expect(throws: PostgresError.self) { try await Connection.open(settings) }
        #expect(error?.message.contains("could not translate host name \"nobody.invalid\"") == true)
        // The reasons of those that are left follow. No name of this machine: it may have several addresses.
        settings.parameters["host"] = "nobody.invalid,127.0.0.1"
        settings.parameters["port"] = "1"
        let both = await #expect(throws: PostgresError.self) { try await Connection.open(settings) }
        #expect(both?.message.contains("nobody.invalid") == true, "\(both?.message ?? "")")
        #expect(both?.message.contains("no server listens on port 1 of 127.0.0.1") == true, "\(both?.message ?? "")")
    }
}
