import pytest

from geo_ray.data.fetch.addresses import may_dial

PUBLIC = ["8.8.8.8", "::ffff:8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"]
PRIVATE = ["127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1", "fd00::1", "fec0::1",
           "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "192.0.2.1",
           "2001:0:4136:e378:8000:63bf:3fff:fdd2"]  # fmt: skip
NEVER = ["169.254.169.254", "169.254.170.2", "169.254.1.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
         "2002:a9fe:a9fe::", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "fe80::1", "fe80::1%eth0",
         "0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255",
         "::127.0.0.1"]  # fmt: skip


@pytest.mark.parametrize(
    ("addresses", "by_default", "when_asked"),
    [(PUBLIC, True, True), (PRIVATE, False, True), (NEVER, False, False)],
)
def test_only_public_addresses_are_dialled_and_private_ones_when_asked_for(addresses, by_default, when_asked):
    assert [one for one in addresses if may_dial(one) != by_default] == []
    assert [one for one in addresses if may_dial(one, allow_private=True) != when_asked] == []


def test_what_is_no_address_is_no_address():
    with pytest.raises(ValueError, match="photos"):
        may_dial("photos.example")


@pytest.mark.parametrize("address", PRIVATE[:-1])  # Teredo names a public server beside the private client
def test_private_servers_may_listen_on_any_port(address):
    assert may_dial(address, allow_private=True, usual_port=False) == may_dial(address, allow_private=True)


@pytest.mark.parametrize("address", [*PUBLIC, *NEVER])
def test_no_others_may_be_dialled_on_an_odd_port(address):
    assert not may_dial(address, allow_private=True, usual_port=False)
