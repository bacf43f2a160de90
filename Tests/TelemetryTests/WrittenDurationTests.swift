import Telemetry
import Testing

@Suite struct WrittenDurationTests {
    @Test(arguments: [
        ("500ms", Duration.milliseconds(500)), ("30s", .seconds(30)), ("30 sec", .seconds(30)), ("5min", .seconds(300)),
        ("5m", .seconds(300)), ("2h", .seconds(7200)), ("1d", .seconds(86400)), ("7", .seconds(7)), ("0", .zero),
        ("3650d", .seconds(3650 * 86400)),
    ])
    func `a number and a unit are read`(text: String, duration: Duration) {
        #expect(WrittenDuration.parse(text) == duration)
    }

    @Test(arguments: ["", "s", "-1s", "1.5s", "1w", "1 d ", "1S", "٣s", "3651d", "999999999999d", "9999999999999"])
    func `anything else is refused`(text: String) {
        #expect(WrittenDuration.parse(text) == nil)
    }

    @Test(arguments: [
        ("0s", WrittenDuration.limits, "from 1ms to 3650d"), ("25d", WrittenDuration.ofServer, "from 0s to 24d"),
        ("10min", .seconds(60)...(.seconds(90)), "from 60s to 90s"),
    ])
    func `a duration out of range is refused, with the range`(
        text: String, range: ClosedRange<Duration>, told: String
    ) {
        #expect(WrittenDuration.parse(text, in: range) == nil)
        #expect(WrittenDuration.problem(with: text, in: range).hasSuffix(told))
        #expect(WrittenDuration.parse(text) != nil)
    }
}
